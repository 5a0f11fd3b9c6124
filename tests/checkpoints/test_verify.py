"""Checkpoints are read back when they are written."""

import contextlib
import os
import pwd

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from convmixer_jax import files
from convmixer_jax.checkpoints import verify
from convmixer_jax.checkpoints.checkpointer import Checkpointer, Progress
from convmixer_jax.checkpoints.restore import restore_newest
from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.errors import UserError
from convmixer_jax.training.tasks import ONE_CLASS


def state_of(step):
  params = {
    'kernel': jax.random.normal(jax.random.key(step), (1000,)),
    'half': jnp.ones((2, 3), jnp.bfloat16),
  }
  return TrainState(
    step=jnp.int32(step),
    params=params,
    batch_stats={},
    opt_state=optax.adamw(0.1).init(params),
  )


def save(directory, steps):
  checkpointer = Checkpointer(directory, 9)
  with contextlib.closing(checkpointer):
    for step in steps:
      checkpointer.save(state_of(step), Progress(ONE_CLASS.empty_window()))


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  directory = epath.Path(tmp_path_factory.mktemp('saved'))
  save(directory, [1])
  return directory / 'checkpoints' / '1'


@pytest.mark.parametrize(
  'name',
  ['lr[0.1]', 'x*?{y}', 'wd=%2', '**', 'étude 東京', 'a#b?c', 'par[1]/run'],
)
def test_runs_in_directories_that_look_like_patterns_are_resumed(
  tmp_path, name
):
  directory = files.absolute_path(str(tmp_path / name))
  save(directory, [1, 2])
  step, state, _ = restore_newest(
    directory, state_of(0), Progress(ONE_CLASS.empty_window())
  )
  assert step == state.step == 2
  jax.tree.map(np.testing.assert_array_equal, state, state_of(2))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      lambda state: state.replace(params={'more': state.step}),
      r'state lacks params\.more',
    ),
    (
      lambda state: state.replace(step=jnp.zeros(2, jnp.int32)),
      r'state\.step is \(\(\), .*not \(\(2,\)',
    ),
    (
      lambda state: state.replace(step=jnp.float32(1)),
      r'state\.step is .*int32.*not .*float32',
    ),
    (
      lambda state: state.replace(step=jnp.int32(2)),
      r'state\.step has other values',
    ),
  ],
  ids=['name', 'shape', 'dtype', 'value'],
)
def test_arrays_that_differ_from_what_was_saved_are_named(
  saved, change, message
):
  expected = verify.expect(change(state_of(1)), with_values=True)
  with pytest.raises(UserError, match=f'cannot be read back: {message}'):
    verify.verify(saved, {'state': expected})


def test_without_values_only_the_structure_is_compared(saved):
  expected = verify.expect(
    state_of(1).replace(step=jnp.int32(2)), with_values=False
  )
  verify.verify(saved, {'state': expected})


def test_user_without_a_name_reads_back(saved, monkeypatch):
  def no_entry(uid):
    raise KeyError(f'getpwuid(): uid not found: {uid}')

  monkeypatch.setattr(pwd, 'getpwuid', no_entry)
  verify.verify(saved, {'state': verify.expect(state_of(1), with_values=True)})


def remove_manifest(path):
  (path / 'state' / 'manifest.ocdbt').unlink()


def truncate_data(path):
  for data in (path / 'state' / 'ocdbt.process_0' / 'd').iterdir():
    os.truncate(data, 1)


def remove_metadata(path):
  (path / 'state' / '_METADATA').unlink()


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (remove_manifest, 'cannot be read back'),
    (truncate_data, 'is missing or too short'),
    (remove_metadata, 'FileNotFoundError'),
  ],
)
@pytest.mark.parametrize('damaged_step', [1, 2])
def test_checkpoint_that_is_not_kept_ends_the_run_in_one_line(
  tmp_path, monkeypatch, damage, message, damaged_step
):
  """As on storage that loses what it was given."""
  check = verify.verify

  def lose(directory, items):
    if directory.name.startswith(str(damaged_step)):
      damage(directory)
    check(directory, items)

  monkeypatch.setattr(verify, 'verify', lose)
  checkpointer = Checkpointer(epath.Path(tmp_path), 9)
  for step in range(1, damaged_step):
    checkpointer.save(state_of(step), Progress(ONE_CLASS.empty_window()))
  with pytest.raises(UserError, match=message) as error:
    checkpointer.save(
      state_of(damaged_step), Progress(ONE_CLASS.empty_window())
    )
    assert damaged_step > 1  # the first one is waited for
    checkpointer.close()
  assert f'of step {damaged_step} could not be written to' in str(error.value)
  assert '\n' not in str(error.value)
  left = [path.name for path in (tmp_path / 'checkpoints').iterdir()]
  assert str(damaged_step) not in left
