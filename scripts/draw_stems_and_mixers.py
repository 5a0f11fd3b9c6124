"""Draws the accuracies of configs/sweeps/patches.py, by stem and token mixer.

  python scripts/draw_stems_and_mixers.py RUNS PICTURE.png

RUNS is the directory of the sweep, or of a copy by scripts/keep_runs.py. A
point is the mean over the seeds, with its 95 % interval; rows without complete
runs are left out. Left: equal width and depth. Right: as many parameters as
the convolution with the same stem has.
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


def draw(accuracies: Accuracies) -> Figure:
  """Draws a panel for each grid."""
  figure = Figure(figsize=(10, 4.2), layout='constrained')
  panels = figure.subplots(1, len(GRIDS), sharey=True)
  for axes, (grid, title) in zip(panels, GRIDS.items(), strict=True):
    stems = [
      s for s in STEMS if any((grid, s, m) in accuracies for m in MIXERS)
    ]
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
    axes.set_xticks(range(len(stems)), stems)
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


def main() -> None:
  """Draws the runs that the command line names."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('runs', type=pathlib.Path)
  parser.add_argument('picture', type=pathlib.Path)
  arguments = parser.parse_args()
  draw(read_accuracies(arguments.runs)).savefig(arguments.picture, dpi=120)


if __name__ == '__main__':
  main()
