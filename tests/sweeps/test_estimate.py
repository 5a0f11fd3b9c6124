"""The dry run of a sweep."""

import pytest
from test_run_comparison import write_run

from convmixer_jax.sweeps import Choice, Grid
from convmixer_jax.sweeps.estimate import estimate, format_estimates
from convmixer_jax.sweeps.plan import make_plan

GRID = Grid(
  'default', {'model.width': [8, 16]}, {'model.depth': 1, 'num_epochs': 2}
)


def test_hours_follow_from_a_given_speed_and_macs(tmp_path):
  first, second = estimate(make_plan([GRID], str(tmp_path / 'sweep')), 22528)
  # 1442 images are 11 batches of 128; two epochs of them
  assert first.images == second.images == 2816
  assert first.hours == pytest.approx(2816 / 22528 / 3600)
  ratio = second.macs / first.macs
  assert ratio > 2 and second.parameters > first.parameters
  assert second.hours == pytest.approx(first.hours * ratio)
  text = format_estimates([first, second], jobs=2)
  assert 'model.depth=1 num_epochs=2 model.width=16' in text
  assert text.endswith('if each is as fast as alone; nothing was started')
  assert not (tmp_path / 'sweep').exists()


def test_hours_are_unknown_without_a_speed(tmp_path):
  found = estimate(make_plan([GRID], str(tmp_path / 'sweep')), None)
  assert [each.hours for each in found] == [None, None]
  assert 'give --images_per_sec' in format_estimates(found, jobs=1)


def test_measured_speeds_are_used(tmp_path):
  write_run(
    tmp_path / 'sweep' / 'width16-seed0', [0.5], epochs=2, **{'model.width': 16}
  )
  first, second = estimate(make_plan([GRID], str(tmp_path / 'sweep')), None)
  assert (second.rate, second.is_measured, second.share) == (1000, True, 0.5)
  assert second.hours == pytest.approx(2816 / 2 / 1000 / 3600)
  assert not first.is_measured
  assert first.rate == pytest.approx(1000 * second.macs / first.macs)


def test_trials_have_their_own_length(tmp_path):
  choice = Choice(
    'learning_rate',
    [0.1],
    {
      'dataset.train_split': 'train[:80%]',
      'dataset.eval_split': 'train[80%:]',
      'num_epochs': 1,
    },
  )
  grid = Grid('default', {}, {'num_epochs': 2}, choose=choice)
  trial, run = estimate(make_plan([grid], str(tmp_path)), None)
  assert trial.images == 1152 and run.images == 2816  # 9 and 2 x 11 batches
  assert 'num_epochs=1 ' in trial.overrides
  assert run.overrides.endswith('learning_rate=chosen')
