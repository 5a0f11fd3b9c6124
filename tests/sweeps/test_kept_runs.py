"""What is kept of runs in results/, and the picture that is drawn of it."""

import shutil

import fake_train
import numpy as np
import pytest

from convmixer_jax import config_files
from convmixer_jax.sweeps import Choice, Grid, plan
from convmixer_jax.sweeps.plan import write_config
from convmixer_jax.sweeps.results import find_runs
from convmixer_jax.sweeps.statistics import Interval
from scripts import draw_stems_and_mixers, keep_runs

GRID = Grid(
  'digits',
  axes={
    'stem and mixer': {
      'patch2-convolution': {'model.width': 16},
      'patch2-none': {'model.width': 8},
    }
  },
  name='width',
  seeds=(0, 1, 2),
)
RATES = Grid(
  'digits',
  choose=Choice(
    'learning_rate',
    [0.1],
    {
      'dataset.train_split': 'train[:90%]',
      'dataset.eval_split': 'train[90%:]',
    },
  ),
  name='rates',
)


@pytest.fixture
def workdir(tmp_path):
  """Six runs, of which the last is cut off, and a trial."""
  workdir = tmp_path / 'sweep'
  for run in plan.make_plan([GRID, RATES], str(workdir)).runs:
    if run.config is not None:  # its rate is known
      is_cut_off = run.name == 'width-patch2-none-seed2'
      run.directory.mkdir(parents=True)
      shutil.copyfile(write_config(run), run.directory / 'config.json')
      fake_train.write(
        run.directory, fake_train.NUM_ROWS - is_cut_off, run.config
      )
  return workdir


def test_complete_runs_are_kept_without_weights_and_stay_complete(
  workdir, tmp_path
):
  assert keep_runs.keep(workdir, tmp_path / 'kept') == 6
  kept = find_runs([tmp_path / 'kept'])
  assert len(kept) == 5 and not any(run.problem for run in kept)
  (trial,) = find_runs([tmp_path / 'kept' / 'trials'])
  assert not trial.problem
  assert not list((tmp_path / 'kept').rglob('checkpoints'))


def test_points_are_means_over_complete_runs(workdir):
  found = draw_stems_and_mixers.read_accuracies(workdir)
  rate = 100 * config_files.load('digits').learning_rate
  convolution = found['width', 'patch2', 'convolution']
  # As fake_train writes it: a seed is worth a hundredth.
  assert convolution.mean == pytest.approx(50 + rate + 1)
  assert convolution.half_width == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)
  assert found['width', 'patch2', 'none'].num_values == 2
  assert found['parameters', 'patch2', 'convolution'] == convolution
  assert len(found) == 3
  panels = draw_stems_and_mixers.draw(found).axes
  assert [len(axes.containers) for axes in panels] == [5, 5]


def test_table_has_means_of_complete_rows_and_columns():
  stems = dict.fromkeys(('patch2', 'patch4'))
  mixers = draw_stems_and_mixers.MIXERS
  accuracies = {
    ('width', stem, mixer): Interval(10.0 * i + j, 0.25, 3)
    for i, stem in enumerate(stems)
    for j, mixer in enumerate(mixers)
  }
  del accuracies['width', 'patch4', 'none']
  text = draw_stems_and_mixers.to_markdown(accuracies)
  names, _, first, second, means = text.split('\n\n')[0].splitlines()
  cells = [line.strip('| ').split(' | ') for line in (names, first, second)]
  assert cells[0] == ['equal width and depth', *mixers, 'mean']
  assert cells[1][1] == '0.0 ± 0.2' and cells[1][-1] == '2.0'
  assert cells[2][0] == 'patch4' and '| 12.0 ± 0.2 |  | 14.0' in second
  assert means == '| mean | 5.0 | 6.0 | 7.0 |  | 9.0 |  |'
