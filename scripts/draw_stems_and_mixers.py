"""Draws and prints the accuracies of configs/sweeps/patches.py.

  python scripts/draw_stems_and_mixers.py RUNS PICTURE.png

RUNS is the directory of the sweep, or of a copy by scripts/keep_runs.py. A
point is the mean over the seeds, with its 95 % interval; rows without complete
runs are left out. Left: equal width and depth. Right: as many parameters as
the convolution with the same stem has. The same as tables in Markdown, with the
means of their rows and columns, goes to stdout.
"""

import argparse
import pathlib
import sys

from matplotlib.figure import Figure

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from configs.sweeps.patches import MIXERS, STEMS  # noqa: E402
from convmixer_jax.sweeps.results import find_runs  # noqa: E402
from convmixer_jax.sweeps.statistics import Interval, mean_interval  # noqa: E402

Accuracies = dict[tuple[str, str, str], Interval]

GRIDS = {'width': 'equal width and depth', 'parameters': 'equal parameters'}
# The convolutions of the second grid are those of the first.
SAME = ('parameters', 'convolution'), ('width', 'convolution')
METRIC = 'eval_accuracy'
MARKERS = 'osD^v'
STEP = 0.13  # between the points of a stem


def read_accuracies(runs: pathlib.Path) -> Accuracies:
  """Returns the accuracy in percent by names of grid, stem and mixer."""
  values: dict[str, list[float]] = {}
  for run in find_runs([runs]):
    if not run.problem:
      row = run.path.name.rpartition('-seed')[0]
      accuracy = 100 * run.progress.metrics[METRIC]
      values.setdefault(row, []).append(accuracy)
  return {
    (grid, stem, mixer): mean_interval(values[row])
    for grid in GRIDS
    for stem in STEMS
    for mixer in MIXERS
    if (row := _row(grid, stem, mixer)) in values
  }


def _row(grid, stem, mixer):
  if (grid, mixer) == SAME[0]:
    grid, mixer = SAME[1]
  return f'{grid}-{stem}-{mixer}'


def _stems(grid, accuracies):
  """Returns the stems with an accuracy, in the order of the config."""
  return [
    stem
    for stem in STEMS
    if any((grid, stem, mixer) in accuracies for mixer in MIXERS)
  ]


def draw(accuracies: Accuracies) -> Figure:
  """Draws a panel for each grid."""
  figure = Figure(figsize=(10, 4.2), layout='constrained')
  panels = figure.subplots(1, len(GRIDS), sharey=True)
  for axes, (grid, title) in zip(panels, GRIDS.items(), strict=True):
    stems = _stems(grid, accuracies)
    for number, mixer in enumerate(MIXERS):
      places = [
        i for i, s in enumerate(stems) if (grid, s, mixer) in accuracies
      ]
      points = [accuracies[grid, stems[i], mixer] for i in places]
      axes.errorbar(
        [i + STEP * (number - (len(MIXERS) - 1) / 2) for i in places],
        [point.mean for point in points],
        [point.half_width or 0 for point in points],
        fmt=MARKERS[number],
        capsize=3,
        label=mixer,
      )
    axes.set_xticks(range(len(stems)), stems, fontsize='small')
    axes.set_xlim(-0.5, len(stems) - 0.5)
    axes.set_title(title)
    axes.grid(axis='y', alpha=0.3)
  panels[0].set_ylabel('test accuracy, %')
  figure.legend(
    *panels[-1].get_legend_handles_labels(),
    title='token mixer',
    loc='outside right upper',  # where no point is
  )
  return figure


def to_markdown(accuracies: Accuracies) -> str:
  """Returns a table for each grid: a row a stem, a column a token mixer.

  The means are of the numbers in a row or column, where none is missing.
  """
  tables = []
  for grid, title in GRIDS.items():
    stems = _stems(grid, accuracies)
    cells = {
      (stem, mixer): accuracies.get((grid, stem, mixer))
      for stem in stems
      for mixer in MIXERS
    }
    lines = [[title, *MIXERS, 'mean'], ['---'] * (len(MIXERS) + 2)]
    for stem in stems:
      row = [cells[stem, mixer] for mixer in MIXERS]
      lines.append([stem, *map(_text, row), _mean(row)])
    columns = [[cells[stem, mixer] for stem in stems] for mixer in MIXERS]
    lines.append(['mean', *map(_mean, columns), ''])
    tables.append('\n'.join(f'| {" | ".join(line)} |' for line in lines))
  return '\n\n'.join(tables)


def _text(interval):
  if interval is None:
    return ''
  width = interval.half_width
  return f'{interval.mean:.1f}' + ('' if width is None else f' ± {width:.1f}')


def _mean(intervals):
  if not intervals or None in intervals:
    return ''
  return f'{sum(one.mean for one in intervals) / len(intervals):.1f}'


def main() -> None:
  """Draws and prints the runs that the command line names."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('runs', type=pathlib.Path)
  parser.add_argument('picture', type=pathlib.Path)
  arguments = parser.parse_args()
  accuracies = read_accuracies(arguments.runs)
  draw(accuracies).savefig(arguments.picture, dpi=120)
  print(to_markdown(accuracies))


if __name__ == '__main__':
  main()
