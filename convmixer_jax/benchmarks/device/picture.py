"""Plots the rows: images/s of each framework, by network."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from convmixer_jax.benchmarks.device.rows import Row

_KINDS = {'train': 'training', 'forward': 'inference'}
_COLOURS = (
  'tab:blue',
  'tab:cyan',
  'tab:orange',
  'tab:red',
  'tab:pink',
  'tab:purple',
)


def plot_throughput(rows: Sequence[Row], title: str) -> Figure | None:
  """Plots bars of images/s; returns None if no network was measured.

  Args:
    rows: rows of the run.
    title: end of the title, such as the name of the device.
  """
  rows = [row for row in rows if row['stage'] == 'models']
  rates = {
    (row['kind'], row['network'], row['framework']): row['images_per_sec']
    for row in rows
    if 'images_per_sec' in row
  }
  if not rates:
    return None
  networks = list(dict.fromkeys(row['network'] for row in rows))
  frameworks = list(dict.fromkeys(row['framework'] for row in rows))
  tried = {(row['network'], row['framework']) for row in rows}
  figure = Figure(
    figsize=(3.2 * len(networks) + 1.5, 5.6), layout='constrained'
  )
  figure.suptitle(f'ConvMixers in bfloat16, images/s: {title}')
  grid = figure.subplots(len(_KINDS), len(networks), squeeze=False)
  for axes_of_kind, (kind, label) in zip(grid, _KINDS.items(), strict=True):
    for axes, network in zip(axes_of_kind, networks, strict=True):
      shown = [name for name in frameworks if (network, name) in tried]
      values = [rates.get((kind, network, name)) for name in shown]
      _plot_bars(axes, shown, values, frameworks)
      axes.set_title(f'{network}, {label}', fontsize=10)
  return figure


def _plot_bars(axes, names, values, frameworks):
  positions = range(len(names))
  colours = [_COLOURS[frameworks.index(name) % len(_COLOURS)] for name in names]
  axes.barh(positions, [value or 0.0 for value in values], color=colours)
  highest = max([value for value in values if value], default=1.0)
  for y, value in zip(positions, values, strict=True):
    text = 'not measured' if value is None else f'{value:,.0f}'
    if value is not None and value < 100:
      text = f'{value:.1f}'
    axes.text((value or 0.0) + 0.02 * highest, y, text, va='center', size=8)
  axes.set_yticks(positions, names, fontsize=8)
  axes.set_xlim(0, 1.25 * highest)
  axes.xaxis.set_major_locator(MaxNLocator(4))
  axes.xaxis.set_major_formatter(StrMethodFormatter('{x:,.0f}'))
  axes.invert_yaxis()
  axes.tick_params(axis='x', labelsize=8)
  axes.spines[['top', 'right']].set_visible(False)
