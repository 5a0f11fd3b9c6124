"""The run as a whole: what it leaves behind, and that it can be stopped."""

import json

import pytest
from cut_off import train_until
from PIL import Image
from run_files import assert_identical, read_rows, read_state

from convmixer_jax.checkpoints import workdir as workdir_lib
from convmixer_jax.errors import UserError
from convmixer_jax.locks.directory_lock import DirectoryLock
from convmixer_jax.training import loop, start


@pytest.fixture
def config(config):
  config.num_steps = 30  # an epoch is 22
  config.checkpoint_every_steps = 7
  return config


@pytest.mark.slow
def test_interrupted_run_ends_with_the_same_bits_and_files(
  config, tmp_path, monkeypatch
):
  whole, pieces = str(tmp_path / 'whole'), str(tmp_path / 'pieces')
  config.profile = True
  results = loop.train_and_evaluate(config, whole)
  config.profile = False
  # Cut off in the first epoch, and in the second, away from checkpoints.
  train_until(11, monkeypatch, config, pieces)
  train_until(18, monkeypatch, config, pieces)
  assert loop.train_and_evaluate(config, pieces) == results

  assert_identical(read_state(pieces, 30), read_state(whole, 30))
  assert read_rows(pieces) == read_rows(whole)
  steps = [row['step'] for row in read_rows(whole)]
  assert steps == [1, 5, 10, 15, 20, 22, 25, 30]

  # What is there now:
  names = {path.name for path in (tmp_path / 'whole').iterdir()}
  assert names >= {
    'checkpoints',
    'config.json',
    'curves.png',
    'data.json',
    'labels.json',
    'metrics.csv',
    'parameters.txt',
    'versions.json',
  }
  assert any(name.startswith('events.out.tfevents') for name in names)
  assert list((tmp_path / 'whole').rglob('*.xplane.pb'))  # the profile
  written = json.loads((tmp_path / 'whole/config.json').read_text())
  assert written == json.loads(config.to_json_best_effort()) | {'profile': True}
  assert 'jax' in json.loads((tmp_path / 'whole/versions.json').read_text())
  assert 'patch_embedding' in (tmp_path / 'whole/parameters.txt').read_text()
  with Image.open(tmp_path / 'whole/curves.png') as curves:
    assert curves.size[0] > 1000
  last = read_rows(whole)[-1]
  assert last.keys() >= {
    'epoch',
    'train_loss',
    'train_accuracy',
    'learning_rate',
    'gradient_norm',
    'parameter_norm',
    'update_norm',
    'eval_loss',
    'eval_accuracy',
    'eval_accuracy_top5',
  }
  assert last['eval_accuracy'] == results['eval_accuracy']

  # Going on when there is nothing left to do evaluates, and changes nothing.
  before = read_rows(whole)
  assert loop.train_and_evaluate(config, whole) == results
  assert read_rows(whole) == before

  # Harmless changes go through; others are named.
  config.num_steps, config.log_every_steps = 31, 1
  loop.train_and_evaluate(config, whole)
  assert read_rows(whole)[-1]['step'] == 31
  config.model.width, config.augment.flip = 16, 0.0
  with pytest.raises(
    UserError, match=r'another config: augment.flip \(0.5 -> 0.0\), model.width'
  ):
    loop.train_and_evaluate(config, whole)


@pytest.mark.slow
def test_relative_workdir_is_created_below_the_current_directory(
  config, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  config.num_steps = 2
  loop.train_and_evaluate(config, 'runs/one')
  assert read_state(tmp_path / 'runs' / 'one', 2)['step'] == 2


def test_workdir_with_other_files_is_refused(config, tmp_path):
  (tmp_path / 'thesis.tex').write_text('important')
  with pytest.raises(UserError, match='is not empty and not a run directory'):
    loop.train_and_evaluate(config, str(tmp_path))
  assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_workdir_with_a_foreign_config_is_refused(config, tmp_path):
  (tmp_path / 'config.json').write_text('[1, 2]')
  with pytest.raises(UserError, match=r'config\.json is not a config of a run'):
    loop.train_and_evaluate(config, str(tmp_path))


def test_workdir_that_is_a_file_is_refused(config, tmp_path):
  path = tmp_path / 'file'
  path.write_text('')
  with pytest.raises(UserError, match=r'file is a file; give a directory'):
    loop.train_and_evaluate(config, str(path))


def test_unwritable_workdir_is_refused(config):
  with pytest.raises(UserError, match='workdir=/proc/run cannot be written to'):
    loop.train_and_evaluate(config, '/proc/run')


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'batch_size': 1448}, 'batch_size = 1448 is more than the 1442'),
    ({'mesh.data': 3}, 'data = 3 x fsdp = 1 does not lay out the 1 devices'),
    ({'batch_size': 60}, 'mixup groups of 8; the nearest that do: 56 and 64'),
    ({'model.patch_size': 9}, r'patch_size = 9 is larger .* \(8 x 8\)'),
    (
      {'model.activation': 'elu'},
      "activation = 'elu' is not one of gelu, relu",
    ),
    ({'augment.crop_scale': (2.0, 3.0)}, 'config.augment.crop_scale = '),
    ({'model.bn_group_size': 7}, 'BatchNorm groups of 7'),
    ({'dataset.eval_split': 'x'}, "'digits' has no split 'x'"),
  ],
)
def test_invalid_config_is_refused_before_anything_is_written(
  config, tmp_path, changes, message
):
  config.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=message):
    loop.train_and_evaluate(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_run_that_ended_while_this_one_started_is_not_resumed_on_other_data(
  config, tmp_path, monkeypatch
):
  class Lock(DirectoryLock):
    def __enter__(self):
      names = [f'class {number}' for number in range(10)]
      workdir_lib.describe_run(self._directory, config, names, 'table')
      return super().__enter__()

  monkeypatch.setattr(start, 'DirectoryLock', Lock)
  with pytest.raises(UserError, match='holds a run on other data'):
    loop.train_and_evaluate(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run' / 'metrics.csv').exists()
