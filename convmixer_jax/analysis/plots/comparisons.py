"""The picture of a comparison: points with intervals, curves with bands."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convmixer_jax.analysis.plots.text import literal_text

_ROW = 0.3  # inches of a row
_LEAST_HEIGHT = 3.6
_MOST_IN_LEGEND = 8
_MOST_COLOURS = 10  # of matplotlib's cycle


class ComparedRow(NamedTuple):
  """A row of the picture.

  Attributes:
    name: of it.
    mean: of the metric.
    half_width: of its interval; None without one.
    epochs: `[N]`, at which the metric was measured.
    means: `[N]`, of the metric.
    half_widths: `[N]`, of its intervals; 0 without one.
  """

  name: str
  mean: float
  half_width: float | None
  epochs: Sequence[float]
  means: Sequence[float]
  half_widths: Sequence[float]


def comparison(rows: Sequence[ComparedRow], metric: str) -> Figure:
  """Draws the last value of each row, and its learning curve.

  Args:
    rows: from the top to the bottom.
    metric: name of what was measured.
  """
  height = max(_LEAST_HEIGHT, 1.2 + _ROW * len(rows))
  figure = Figure(figsize=(12, height), layout='constrained')
  left, right = figure.subplots(1, 2)
  with literal_text([metric, *(row.name for row in rows)]) as literal:
    for i, row in enumerate(rows):
      colour = _colour(i, len(rows))
      left.errorbar(
        row.mean, i, xerr=row.half_width, fmt='o', color=colour, capsize=3, ms=5
      )
      means, widths = np.asarray(row.means), np.asarray(row.half_widths)
      right.plot(
        *(row.epochs, means),
        color=colour,
        label=literal(row.name),
        marker='o' if len(means) == 1 else None,
      )
      right.fill_between(
        *(row.epochs, means - widths, means + widths),
        color=colour,
        alpha=0.15 if len(rows) <= _MOST_IN_LEGEND else 0.04,
        linewidth=0,
      )
    left.set_yticks(range(len(rows)), [literal(row.name) for row in rows])
    left.invert_yaxis()
    left.set(xlabel=literal(metric), title='last evaluation, 95 % interval')
    right.set(xlabel='epoch', ylabel=literal(metric), title='learning curves')
    _limit(right, rows)
    for axes in (left, right):
      axes.grid(alpha=0.3)
    if len(rows) <= _MOST_IN_LEGEND:
      # Beside the curves, which end anywhere.
      right.legend(fontsize='small', loc='upper left', bbox_to_anchor=(1, 1))
    figure.draw_without_rendering()  # while the fonts are those of the names
  return figure


def _colour(index, number):
  """Returns one of so many colours."""
  if number <= _MOST_COLOURS:
    return f'C{index}'
  return colormaps['turbo']((index + 0.5) / number)


def _limit(axes: Axes, rows: Sequence[ComparedRow]) -> None:
  """Keeps wide bands of few seeds from making the curves flat."""
  means = [mean for row in rows for mean in row.means]
  if means:
    margin = 0.05 * (max(means) - min(means)) or 0.05
    axes.set_ylim(min(means) - margin, max(means) + margin)
