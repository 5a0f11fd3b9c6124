"""A picture of the rows: images/s of each contender, by network."""

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


def throughput(rows: Sequence[Row], title: str) -> Figure | None:
  """Draws bars of images/s; None if no network was measured.

  Args:
    rows: of the run.
    title: above the picture, such as the name of the device.
  """
  rows = [row for row in rows if row['stage'] == 'models']
  rates = {
    (row['kind'], row['network'], row['contender']): row['images_per_sec']
    for row in rows
    if 'images_per_sec' in row
  }
  if not rates:
    return None
  networks = list(dict.fromkeys(row['network'] for row in rows))
  contenders = list(dict.fromkeys(row['contender'] for row in rows))
  tried = {(row['network'], row['contender']) for row in rows}
  figure = Figure(
    figsize=(3.2 * len(networks) + 1.5, 5.6), layout='constrained'
  )
  figure.suptitle(f'ConvMixers in bfloat16, images/s: {title}')
  grid = figure.subplots(len(_KINDS), len(networks), squeeze=False)
  for axes_of_kind, (kind, name) in zip(grid, _KINDS.items(), strict=True):
    for axes, network in zip(axes_of_kind, networks, strict=True):
      own = [c for c in contenders if (network, c) in tried]
      _bars(axes, own, [rates.get((kind, network, c)) for c in own], contenders)
      axes.set_title(f'{network}, {name}', fontsize=10)
  return figure


def _bars(axes, names, values, contenders):
  places = range(len(names))
  colours = [_COLOURS[contenders.index(name) % len(_COLOURS)] for name in names]
  axes.barh(places, [value or 0.0 for value in values], color=colours)
  highest = max([value for value in values if value], default=1.0)
  for place, value in zip(places, values, strict=True):
    text = 'not measured' if value is None else f'{value:,.0f}'
    if value is not None and value < 100:
      text = f'{value:.1f}'
    axes.text((value or 0.0) + 0.02 * highest, place, text, va='center', size=8)
  axes.set_yticks(places, names, fontsize=8)
  axes.set_xlim(0, 1.25 * highest)
  axes.xaxis.set_major_locator(MaxNLocator(4))
  axes.xaxis.set_major_formatter(StrMethodFormatter('{x:,.0f}'))
  axes.invert_yaxis()
  axes.tick_params(axis='x', labelsize=8)
  axes.spines[['top', 'right']].set_visible(False)
