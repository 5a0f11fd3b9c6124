"""The configs of a sweep, and their checks before anything starts."""

import dataclasses
import json
import re

import pytest

from convmixer_jax.checkpoints.workdir import config_to_json
from convmixer_jax.errors import UserError
from convmixer_jax.sweeps import Choice, Grid, configs, plan
from convmixer_jax.sweeps.choices import (
  choose,
  read_chosen,
  restore_choices,
)
from convmixer_jax.sweeps.progress import Progress

CHOICE = Choice(
  'learning_rate',
  [0.01, 0.1],
  {
    'dataset.train_split': 'train[:90%]',
    'dataset.eval_split': 'train[90%:]',
    'num_epochs': 1,
  },
)


def make(tmp_path, *grids):
  return plan.make_plan(grids, str(tmp_path / 'sweep'))


def write_as_started(run, **changes):
  """Writes the config.json that a run has once it was started."""
  config = run.config.copy_and_resolve_references()
  config.update_from_flattened_dict(changes)
  run.directory.mkdir(parents=True)
  (run.directory / 'config.json').write_text(config_to_json(config))


def test_configs_have_overrides_and_seeds_and_nothing_is_written(tmp_path):
  found = make(
    tmp_path,
    Grid(
      'digits',
      {'model.width': [8, 16]},
      {'augment.crop_scale': [0.5, 1.0]},
      seeds=(3, 4),
    ),
  )
  assert [run.name for run in found.runs] == [
    *('width8-seed3', 'width8-seed4', 'width16-seed3', 'width16-seed4'),
  ]
  config = found.runs[3].config
  assert (config.model.width, config.seed) == (16, 4)
  assert config.augment.crop_scale == (0.5, 1.0)
  assert not (tmp_path / 'sweep').exists()


def test_another_network_has_its_own_fields(tmp_path):
  (run,) = make(
    tmp_path, Grid('digits', {}, {'model.width': 24, 'model.name': 'resmlp'})
  ).runs
  assert (run.config.model.name, run.config.model.width) == ('resmlp', 24)


def test_runs_that_start_from_a_run_have_its_network(tmp_path):
  (first,) = make(
    tmp_path, Grid('digits', {}, {'model.name': 'resmlp', 'model.width': 24})
  ).runs
  write_as_started(first)
  start = {'init_from': str(first.directory), 'new_head': True}
  (second,) = make(tmp_path, Grid('digits', {}, start, name='tuned')).runs
  assert second.config.model.to_dict() == first.config.model.to_dict()


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    ({'modle.width': 1}, 'config.modle.width is not a key'),
    ({'model.heads': 1}, 'config.model.heads is not a field of'),
    ({'batch_size': 'many'}, "config.batch_size = 'many' is not"),
    ({'batch_size': -1}, 'config.batch_size = -1 is not at least 1'),
    ({'model.name': 'nothing'}, "config.model.name = 'nothing' is unknown"),
    ({'num_epochs': 0}, 'set one of them'),
  ],
)
def test_wrong_override_is_refused_with_its_run(tmp_path, overrides, message):
  good = Grid('digits', {'a': {'x': {}, 'y': overrides}})
  with pytest.raises(UserError, match=re.escape(message)) as caught:
    make(tmp_path, good)
  assert str(caught.value).startswith('run y-seed0: ')


def test_network_that_does_not_fit_the_images_is_refused(tmp_path):
  found = make(tmp_path, Grid('digits', {}, {'model.patch_size': 9}))
  with pytest.raises(UserError, match=r'run digits-seed0: .*patch_size'):
    plan.check_data_and_networks(found)


def test_rows_that_are_one_experiment_are_refused(tmp_path):
  rows = {'a': {'model.width': 16}, 'b': {'model.width': 16}}
  with pytest.raises(UserError, match='runs a-seed0 and b-seed0 have the same'):
    make(tmp_path, Grid('digits', {'x': rows}))


def test_missing_config_is_named(tmp_path):
  with pytest.raises(UserError, match="config 'nothing' of the sweep"):
    make(tmp_path, Grid('nothing'))


def test_trials_may_not_see_the_images_of_the_comparison(tmp_path):
  seen = Choice('learning_rate', [0.1], {'dataset.train_split': 'train[:9%]'})
  with pytest.raises(UserError, match=r"images of 'test', on which"):
    make(tmp_path, Grid('digits', choose=seen))


@pytest.mark.parametrize(
  ('splits', 'message'),
  [
    (('train[:60%]', 'train[60%:80%]'), None),
    (('train[:60%]', 'train[60%:81%]'), 'by 14 of the images on which'),
    (('train[10%:]', 'train[:10%]'), 'by 288 of the images on which'),
    (('train[:70%]', 'train[60%:80%]'), r"144 images of 'train\[60%:80%\]'"),
  ],
)
def test_images_of_trials_are_compared_where_splits_are_slices(
  tmp_path, splits, message
):
  overrides = {
    'dataset.train_split': 'train[:80%]',
    'dataset.eval_split': 'train[80%:]',
  }
  parts = dict(zip(overrides, splits, strict=True))
  choose = Choice('learning_rate', [0.1], parts)
  found = make(tmp_path, Grid('digits', {}, overrides, choose=choose))
  if message is None:
    plan.check_data_and_networks(found)
    return
  with pytest.raises(UserError, match=message):
    plan.check_data_and_networks(found)


def test_runs_of_a_choice_get_their_config_when_it_is_made(tmp_path):
  found = make(tmp_path, Grid('cifar10', choose=CHOICE, seeds=(0, 1)))
  trials = found.of_row(found.rows[0], trials=True)
  assert [run.name for run in trials] == [
    'trials/cifar10-learning_rate0.01-seed0',
    'trials/cifar10-learning_rate0.1-seed0',
  ]
  assert [run.config.learning_rate for run in trials] == [0.01, 0.1]
  assert trials[0].config.dataset.eval_split == 'train[90%:]'
  runs = found.of_row(found.rows[0], trials=False)
  assert [run.config for run in runs] == [None, None]
  found.set_chosen(found.rows[0], 0.1)
  assert [run.config.learning_rate for run in runs] == [0.1, 0.1]
  assert runs[0].config.dataset.eval_split == 'test'


def test_of_losses_the_smallest_is_chosen(tmp_path):
  choice = dataclasses.replace(CHOICE, metric='eval_loss')
  found = make(tmp_path, Grid('cifar10', choose=choice))
  (row,) = found.rows
  losses = zip(found.of_row(row, trials=True), (0.5, 0.7), strict=True)
  progress = {
    run.name: Progress(is_complete=True, metrics={'eval_loss': loss})
    for run, loss in losses
  }
  (found.workdir / 'sweep').mkdir(parents=True)
  line = choose(found, row, progress, {})
  assert 'learning_rate = 0.01 is chosen' in line
  assert line.endswith('(0.01: 0.5000, 0.1: 0.7000); none smaller was tried')
  (run,) = found.of_row(row, trials=False)
  assert run.config.learning_rate == 0.01


def test_choice_is_restored_unless_its_values_changed(tmp_path):
  found = make(tmp_path, Grid('cifar10', choose=CHOICE))
  path = found.workdir / 'sweep' / 'chosen.json'
  path.parent.mkdir(parents=True)
  record = {
    'key': 'learning_rate',
    'values': [0.01, 0.1],
    'results': [0.5, 0.6],
    'index': 1,
  }
  path.write_text(json.dumps({'cifar10': record}))
  restore_choices(found)
  assert found.runs[-1].config.learning_rate == 0.1
  path.write_text(json.dumps({'cifar10': record | {'values': [0.2, 0.1]}}))
  with pytest.raises(UserError, match='was chosen among'):
    restore_choices(found)
  path.write_text('{"cifar10": {}}')
  with pytest.raises(UserError, match='is damaged'):
    read_chosen(found.workdir)


def test_run_with_another_config_is_named_but_free_keys_may_change(tmp_path):
  found = make(tmp_path, Grid('digits', {'model.width': [8, 16]}))
  write_as_started(found.runs[0], log_every_steps=7)
  plan.check_unchanged(found)
  write_as_started(found.runs[1], weight_decay=0.5)
  with pytest.raises(UserError, match=r'width16-seed0: weight_decay \(0.5 -> '):
    plan.check_unchanged(found)


def test_another_length_is_another_run(tmp_path):
  found = make(tmp_path, Grid('digits'))
  write_as_started(found.runs[0], num_epochs=7)
  with pytest.raises(UserError, match=r'num_epochs \(7 -> 30\)'):
    plan.check_unchanged(found)


def test_runs_that_the_sweep_lacks_are_found(tmp_path):
  found = make(tmp_path, Grid('digits', {'model.width': [8, 16]}))
  for run in found.runs:
    write_as_started(run)
  fewer = make(tmp_path, Grid('digits', {'model.width': [8]}))
  assert plan.surplus_runs(fewer) == ['width16-seed0']
  assert plan.surplus_runs(found) == []


def test_sweep_of_the_package_is_found_by_name(tmp_path):
  (grid,) = configs.load_sweep('digits')
  assert len(make(tmp_path, grid).runs) == 6
  with pytest.raises(UserError, match='--sweep=nothing is not a file'):
    configs.load_sweep('nothing')


def test_file_that_fails_is_named_with_its_line(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text('def get_sweep():\n  return 1 / 0\n')
  with pytest.raises(UserError, match=r'mine.py fails in line 2 \(ZeroDiv'):
    configs.load_sweep(str(path))
  path.write_text('def get_sweeps():\n  return []\n')
  with pytest.raises(UserError, match=r'defines no get_sweep\(\)'):
    configs.load_sweep(str(path))
