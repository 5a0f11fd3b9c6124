"""Checkpoints: which are kept, how they come back, and what damage does."""

import contextlib
import os
import resource
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from convmixer_jax.checkpoints import checkpointer as checkpointer_lib
from convmixer_jax.checkpoints.checkpointer import Checkpointer, Progress
from convmixer_jax.checkpoints.restore import restore, restore_newest
from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.checkpoints.workdir import describe_run
from convmixer_jax.errors import UserError
from convmixer_jax.training.tasks import ONE_CLASS


def state_of(step):
  return TrainState(
    step=jnp.int32(step),
    params={'kernel': jax.random.normal(jax.random.key(step), (1000,))},
    batch_stats={},
    opt_state=(),
  )


def save(workdir, steps, keep=9, skipped=0, metrics=None):
  checkpointer = Checkpointer(epath.Path(workdir), keep)
  with contextlib.closing(checkpointer):
    for step in steps:
      progress = Progress(ONE_CLASS.empty_window(), skipped)
      checkpointer.save(state_of(step), progress, (metrics or {}).get(step))


def newest(workdir):
  return restore_newest(
    epath.Path(workdir), state_of(0), Progress(ONE_CLASS.empty_window())
  )


def assert_newest(workdir, step):
  found, state, _ = newest(workdir)
  assert found == state.step == step
  expected = state_of(step).params['kernel']
  np.testing.assert_array_equal(state.params['kernel'], expected)


def names(workdir):
  return {path.name for path in (workdir / 'checkpoints').iterdir()}


def test_last_and_best_checkpoints_are_kept_over_restarts(tmp_path):
  accuracies = {2: 0.5, 3: 0.9, 5: 0.7}
  metrics = {n: {'eval_accuracy': value} for n, value in accuracies.items()}
  save(tmp_path, [1, 2, 3, 4], keep=2, metrics=metrics)
  save(tmp_path, [5, 6, 7], keep=2, metrics=metrics)
  assert names(tmp_path) == {'3', '6', '7'}
  assert_newest(tmp_path, 7)
  checkpointer = Checkpointer(epath.Path(tmp_path), keep=2)
  assert checkpointer.latest_step() == 7
  checkpointer.close()


def test_progress_is_restored(tmp_path):
  save(tmp_path, [1], skipped=3)
  _, _, progress = newest(tmp_path)
  assert progress.skipped_in_a_row == 3
  assert progress.window.train_loss.count == 0


def test_checkpoint_without_averages_is_as_before_there_were_any(tmp_path):
  save(tmp_path, [1])
  path = tmp_path / 'checkpoints' / '1' / 'state' / '_METADATA'
  assert 'params' in path.read_text() and 'ema' not in path.read_text()
  assert_newest(tmp_path, 1)


def test_new_directory_restores_nothing(tmp_path):
  state, progress = state_of(0), Progress(ONE_CLASS.empty_window())
  found = restore_newest(epath.Path(tmp_path), state, progress)
  assert found == (0, state, progress)
  assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  directory = tmp_path_factory.mktemp('saved')
  save(directory, [1, 2, 3], metrics={1: {'eval_accuracy': 0.5}})
  return directory


@pytest.fixture
def workdir(saved, tmp_path):
  shutil.copytree(saved, tmp_path / 'run')
  return tmp_path / 'run'


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(bytes(data))


def truncate(path):
  path.write_bytes(path.read_bytes()[:-10])


DAMAGES = {
  'a bit of the arrays': lambda path: flip(kernel_file(path)),
  'a bit of the metrics': lambda path: flip(path / 'metrics/metrics'),
  'truncated': lambda path: truncate(kernel_file(path)),
  'a missing file': lambda path: kernel_file(path).unlink(),
  'a missing folder': lambda path: shutil.rmtree(path / 'state'),
}


def kernel_file(path):
  """The file with the numbers of `state_of`."""
  files = [file for file in (path / 'state').rglob('*') if file.is_file()]
  return max(files, key=lambda file: file.stat().st_size)


@pytest.mark.parametrize('damage', DAMAGES)
def test_newest_undamaged_checkpoint_is_restored(workdir, capsys, damage):
  DAMAGES[damage](workdir / 'checkpoints/3')
  assert_newest(workdir, 2)
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith('The checkpoint of step 3 is damaged (')
  assert line.endswith(f'moved to {workdir}/checkpoints/damaged-3')
  # The run resumes, and makes step 3 again.
  save(workdir, [3])
  assert_newest(workdir, 3)
  DAMAGES[damage](workdir / 'checkpoints/3')
  DAMAGES[damage](workdir / 'checkpoints/2')
  assert_newest(workdir, 1)
  assert names(workdir) == {'1', 'damaged-2', 'damaged-3', 'damaged-3.1'}


def test_without_checksums_orbax_restores_a_flipped_bit_unnoticed(workdir):
  """Why there are checksums."""
  flip(kernel_file(workdir / 'checkpoints/3'))
  state, _ = restore(
    epath.Path(workdir), 3, state_of(0), Progress(ONE_CLASS.empty_window())
  )
  assert state.step == 3
  assert not np.array_equal(
    state.params['kernel'], state_of(3).params['kernel']
  )


def test_checkpoint_that_cannot_be_restored_counts_as_damaged(workdir, capsys):
  checkpointer = Checkpointer(epath.Path(workdir), keep=9)
  with contextlib.closing(checkpointer):
    state = state_of(4).replace(params={'of another network': jnp.ones(3)})
    checkpointer.save(state, Progress(ONE_CLASS.empty_window()))
  assert_newest(workdir, 3)
  (line,) = capsys.readouterr().out.splitlines()
  assert 'step 4 is damaged (ValueError: ' in line


def test_checkpoint_without_checksums_counts_as_damaged(workdir, capsys):
  (workdir / 'checkpoints/3/SHA256SUMS').unlink()
  assert_newest(workdir, 2)
  (line,) = capsys.readouterr().out.splitlines()
  assert 'step 3 is damaged (SHA256SUMS is missing)' in line


def test_older_checkpoint_with_damaged_metrics_is_moved(workdir, capsys):
  for step in (1, 2):
    (workdir / f'checkpoints/{step}/SHA256SUMS').unlink()
  (workdir / 'checkpoints/1/metrics/metrics').write_text('{"eval_acc')
  assert_newest(workdir, 3)
  assert 'step 1 is damaged (metrics' in capsys.readouterr().out
  save(workdir, [4])
  assert names(workdir) == {'2', '3', '4', 'damaged-1'}


def test_half_deleted_checkpoints_are_removed_at_the_next_save(workdir, capsys):
  """A process can be killed while it deletes what it need not keep."""
  shutil.rmtree(workdir / 'checkpoints/1/state')
  shutil.rmtree(workdir / 'checkpoints/2/metrics')
  assert_newest(workdir, 3)
  assert capsys.readouterr().out == ''
  save(workdir, [4], keep=2, metrics={4: {'eval_accuracy': 0.9}})
  assert names(workdir) == {'3', '4'}


def test_all_checkpoints_damaged_is_an_error_that_moves_nothing(workdir):
  before = names(workdir)
  for step in (1, 2, 3):
    flip(kernel_file(workdir / f'checkpoints/{step}'))
  with pytest.raises(UserError) as caught:
    newest(workdir)
  message = str(caught.value)
  assert '\n' not in message and 'give a new --workdir' in message
  assert message.count('has changed since it was written') == 3
  assert names(workdir) == before


def mounted(path, options):
  """Mounts a file system in memory, where that is allowed."""
  path.mkdir(exist_ok=True)
  command = ['mount', '-t', 'tmpfs', '-o', options, 'none', str(path)]
  if subprocess.run(command, capture_output=True, check=False).returncode:
    pytest.skip('only root may mount a file system')
  return path


def test_unreachable_bucket_is_reported_in_one_line(tmp_path, monkeypatch):
  """Where neither saving nor looking for older checkpoints works."""

  def fail(*_, **__):
    raise ConnectionError('no\nroute')

  checkpointer = Checkpointer(epath.Path(tmp_path), keep=1)
  with contextlib.closing(checkpointer), monkeypatch.context() as patch:
    patch.setattr(checkpointer._manager, 'save', fail)
    patch.setattr(checkpointer_lib, 'find_steps', fail)
    with pytest.raises(UserError) as caught:
      checkpointer.save(state_of(1), Progress(ONE_CLASS.empty_window()))
  assert str(caught.value) == (
    f'the checkpoint of step 1 could not be written to {tmp_path}/checkpoints '
    '(ConnectionError: no route); the same command resumes from the last '
    'checkpoint, once it can be'
  )


# Warnings that Orbax's threads leave, in addition to the error that it raises:
in_threads = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnhandledThreadExceptionWarning',
  'ignore::pytest.PytestUnraisableExceptionWarning',
)


@pytest.fixture
def small_disk(tmp_path):
  yield mounted(tmp_path / 'disk', 'size=300k')
  subprocess.run(['umount', str(tmp_path / 'disk')], check=True)


@in_threads
def test_full_disk_is_reported_and_the_last_checkpoint_kept(small_disk):
  """The last good one stays, though only one is to be kept."""
  workdir = small_disk / 'run'
  save(workdir, [1], keep=1)
  blocks = os.statvfs(small_disk)
  room = blocks.f_bavail * blocks.f_bsize
  (small_disk / 'ballast').write_bytes(bytes(room - 2**14))
  with pytest.raises(UserError) as caught:
    save(workdir, [2, 3], keep=1)
  assert str(caught.value) == (
    f'the checkpoint of step 2 could not be written to {workdir}/checkpoints '
    '(No space left on device); the same command resumes from step 1, once it '
    'can be'
  )
  assert_newest(workdir, 1)
  (small_disk / 'ballast').unlink()
  save(workdir, [2], keep=1)
  assert names(workdir) == {'2'}
  assert_newest(workdir, 2)


def test_read_only_disk_is_reported(small_disk, config):
  def remount(option):
    command = ['mount', '-o', f'remount,{option}', str(small_disk)]
    subprocess.run(command, check=True)

  save(small_disk, [1])
  remount('ro')
  with pytest.raises(UserError, match='Read-only file system'):
    describe_run(epath.Path(small_disk), config, None, 'table')
  assert_newest(small_disk, 1)
  remount('rw')
  save(small_disk, [2])
  flip(kernel_file(small_disk / 'checkpoints/2'))
  remount('ro')
  with pytest.raises(UserError, match=r'/2 is damaged and .* \(Read-only file'):
    newest(small_disk)


@in_threads
def test_file_size_limit_is_reported_and_the_last_checkpoint_kept(tmp_path):
  """As a full disk, where one must not mount."""
  save(tmp_path, [1], keep=1)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
  try:
    with pytest.raises(UserError, match=r'step 2 could .* \(File too large\)'):
      save(tmp_path, [2], keep=1)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert_newest(tmp_path, 1)
  save(tmp_path, [2], keep=1)
  assert names(tmp_path) == {'2'}
