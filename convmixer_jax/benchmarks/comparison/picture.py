"""Plots accuracy against speed; the area of a circle is the parameters."""

import math
import textwrap

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from convmixer_jax.analysis.plots.text import literal_text
from convmixer_jax.benchmarks.comparison.paper import PAPER
from convmixer_jax.benchmarks.comparison.rows import Row, Rows

_AREA = 5.0  # square points for each million parameters
_SPEED = 'forward_images_per_sec'
_LINE_LENGTH = 100  # characters below the plot
# A source of accuracies, and how it is drawn.
_MEASURED, PUBLISHED, _PAPER = 'measured here', 'published', 'in the paper'
_EDGES = {_MEASURED: 'solid', PUBLISHED: 'dashed', _PAPER: 'dotted'}


def plot(rows: Rows) -> Figure | None:
  """Plots the networks of which accuracy and speed are known.

  Where no speed was measured, operations take its place. Networks that are
  left out are named below the plot.

  Args:
    rows: of the comparison.

  Returns:
    None if there is nothing to plot.
  """
  accuracies, key = _find_accuracies(rows), _find_abscissa(rows)
  scale = 1.0 if key == _SPEED else 1e9
  names = [name for name in accuracies if key in rows.by_name[name]]
  if not names:
    return None
  figure = Figure(figsize=(8, 5.4), layout='constrained')
  axes = figure.subplots()
  kinds = list(dict.fromkeys(rows.by_name[n]['architecture'] for n in names))
  labels = []
  with literal_text([*rows.by_name, *kinds]) as literal:
    for name in names:
      row, (accuracy, source) = rows.by_name[name], accuracies[name]
      kind = row['architecture']
      x = row[key] / scale
      area = _AREA * row['parameters'] / 1e6
      axes.scatter(
        x,
        accuracy,
        s=area,
        facecolor=f'C{kinds.index(kind) % 10}',
        edgecolor='black',
        alpha=0.5,
        linestyle=_EDGES[source],
      )
      above = (0.0, math.sqrt(area / math.pi) + 2)  # the circle
      label = axes.annotate(
        literal(name),
        (x, accuracy),
        above,
        textcoords='offset points',
        fontsize=8,
        ha='center',
      )
      labels.append(label)
    _add_legends(axes, kinds, {accuracies[n][1] for n in names}, literal)
    left_out = [
      textwrap.fill(line, _LINE_LENGTH, break_on_hyphens=False)
      for line in describe_left_out(rows)
    ]
    axes.set_xlabel(literal(_describe_abscissa(rows, key)))
    if left_out:
      figure.supxlabel(literal('\n'.join(left_out)), fontsize=8)
  axes.set_xscale('log')
  axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
  axes.xaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
  axes.xaxis.set_minor_formatter(NullFormatter())
  axes.margins(0.15)
  axes.grid(alpha=0.3)
  axes.set_ylabel('top-1 accuracy on ImageNet, %')
  _separate(labels, figure)
  return figure


def _separate(labels, figure):
  """Moves names that would cover another one below their circles."""
  figure.draw_without_rendering()  # places everything
  boxes = []
  for label in labels:
    box = label.get_window_extent()
    if any(box.overlaps(other) for other in boxes):
      x, y = label.get_position()
      label.set(position=(x, -y), va='top')
      box = label.get_window_extent()
    boxes.append(box)


def describe_left_out(rows: Rows) -> list[str]:
  """Returns which networks `plot` leaves out, and why; empty for none.

  Args:
    rows: of the comparison.
  """
  accuracies, key = _find_accuracies(rows), _find_abscissa(rows)
  unknown = {
    'accuracy': [name for name in rows.by_name if name not in accuracies],
    'speed': [name for name in accuracies if key not in rows.by_name[name]],
  }
  return [
    f'not shown, {what} unknown: {", ".join(names)}'
    for what, names in unknown.items()
    if names
  ]


def _find_accuracies(rows):
  """Returns accuracy and source by name, of the networks that have one."""
  return {
    name: found
    for name, row in rows.by_name.items()
    if (found := find_accuracy(name, row))
  }


def _find_abscissa(rows):
  """Returns the key of a row that the networks are plotted over."""
  accuracies = _find_accuracies(rows)
  by_speed = any(_SPEED in rows.by_name[name] for name in accuracies)
  return _SPEED if by_speed else 'macs'


def _describe_abscissa(rows, key):
  settings = rows.settings
  if key != _SPEED:
    return 'GMACs for one image'
  return (
    f'images/s of inference: {settings["device"]}, {settings["batch_size"]} '
    f'images, {settings["dtype"]}'
  )


def find_accuracy(name: str, row: Row) -> tuple[float, str] | None:
  """Returns the best known accuracy of a network, and its source.

  It is that measured here, else that of the paper, else that published with
  the weights; None if all are unknown.
  """
  if 'measured_top1' in row:
    return row['measured_top1'], _MEASURED
  if name in PAPER:
    return PAPER[name].top1, _PAPER
  if 'published_top1' in row:
    return row['published_top1'], PUBLISHED
  return None


def _add_legends(axes, kinds, sources, literal):
  """Explains colours, lines and areas."""
  for number, kind in enumerate(kinds):
    colour = f'C{number % 10}'
    axes.scatter([], [], s=60, color=colour, alpha=0.5, label=literal(kind))
  for source, style in _EDGES.items():
    if source in sources:
      axes.scatter(
        *([], []),
        s=60,
        facecolor='white',
        edgecolor='black',
        linestyle=style,
        label=f'top-1 {source}',
      )
  for millions in (25, 100):
    axes.scatter(
      *([], []),
      s=_AREA * millions,
      color='lightgrey',
      label=f'{millions} M parameters',
    )
  axes.legend(
    fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5), labelspacing=1.2
  )
