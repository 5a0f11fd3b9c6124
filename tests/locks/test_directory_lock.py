"""Two processes in one directory: the second one is refused, or takes over."""

import contextlib
import errno
import hashlib
import json
import os
import subprocess
import sys

import pytest
from etils import epath

from convmixer_jax.errors import InUse, UserError
from convmixer_jax.locks import directory_lock as lock_lib
from convmixer_jax.locks.directory_lock import DirectoryLock
from convmixer_jax.locks.lock_file import LocalFile


@pytest.fixture
def directory(tmp_path):
  return epath.Path(tmp_path) / 'run'


@pytest.fixture
def is_quick(monkeypatch):
  """Makes watching and refreshing take fractions of a second."""
  monkeypatch.setattr(lock_lib, 'STALE_AFTER', 0.5)
  monkeypatch.setattr(lock_lib, '_POLL', 0.05)
  monkeypatch.setattr(lock_lib, '_REFRESH_EVERY', 0.05)


def names(directory):
  if not directory.exists():
    return []
  return [path.name for path in directory.iterdir()]


def leave_lock(directory, **changes):
  """Writes the lock of a process that cannot remove it any more."""
  owner = lock_lib.describe_process() | changes
  directory.mkdir(parents=True, exist_ok=True)
  content = f'{owner["token"]}\n{json.dumps(owner)}\n'
  (directory / lock_lib.NAME).write_text(content)


def assert_can_be_taken(directory):
  with DirectoryLock(directory) as lock:
    lock.check()
    assert names(directory) == [lock_lib.NAME]
  assert names(directory) == []


def test_second_process_is_refused_in_one_line_with_holder_and_remedy(
  directory,
):
  with DirectoryLock(directory):
    before = (directory / lock_lib.NAME).read_bytes()
    with pytest.raises(InUse) as error, DirectoryLock(directory):
      pass
    message = str(error.value)
    assert message.startswith(
      f'--workdir={directory} is in use by process {os.getpid()} on '
    )
    assert message.endswith('stop it, or give another --workdir')
    assert '\n' not in message
    assert error.value.EXIT_STATUS == 75
    assert (directory / lock_lib.NAME).read_bytes() == before
  assert_can_be_taken(directory)


def test_lock_is_released_by_an_error(directory):
  with contextlib.suppress(KeyError), DirectoryLock(directory):
    raise KeyError
  assert_can_be_taken(directory)


def test_lock_of_a_killed_process_is_taken_over_at_once(directory, capsys):
  code = (
    'import os, sys; from etils import epath; '
    'from convmixer_jax.locks.directory_lock import DirectoryLock; '
    'DirectoryLock(epath.Path(sys.argv[1])).__enter__(); '
    'os.kill(os.getpid(), 9)'
  )
  subprocess.run([sys.executable, '-c', code, str(directory)], check=False)
  assert names(directory) == [lock_lib.NAME]
  assert_can_be_taken(directory)
  assert 'which has ended; this process takes over' in capsys.readouterr().out


def test_another_process_with_the_number_of_the_holder_does_not_hold_the_lock(
  directory,
):
  start = lock_lib.describe_process()['process_start']
  leave_lock(directory, process_start=start - 1)
  assert_can_be_taken(directory)


@pytest.mark.usefixtures('is_quick')
@pytest.mark.parametrize(
  'machine', ['another host', None], ids=['other host', 'not Linux']
)
def test_lock_of_another_machine_that_is_not_refreshed_is_taken_over(
  directory, machine, capsys
):
  leave_lock(directory, machine=machine, host='elsewhere')
  assert_can_be_taken(directory)
  assert 'watching for 0.5 s whether that' in capsys.readouterr().out


@pytest.mark.usefixtures('is_quick')
@pytest.mark.parametrize('content', [b'\xff{', b'', b'a/b\n', b'a' * 300])
def test_unreadable_lock_is_watched_before_it_is_taken_over(
  directory, content, capsys
):
  directory.mkdir()
  (directory / lock_lib.NAME).write_bytes(content)
  assert_can_be_taken(directory)
  assert 'last used by another process; watching' in capsys.readouterr().out


@pytest.mark.usefixtures('is_quick')
def test_lock_of_another_machine_that_is_refreshed_is_respected(
  directory, monkeypatch
):
  """Whatever its clock says: only changes count."""
  monkeypatch.setattr(lock_lib, '_machine', lambda: 'another host')
  with DirectoryLock(directory):
    monkeypatch.setattr(lock_lib, '_machine', lambda: 'this host')
    monkeypatch.setattr(lock_lib, 'STALE_AFTER', 60)
    with pytest.raises(InUse), DirectoryLock(directory):
      pass


def test_holder_whose_lock_is_gone_stops_and_leaves_the_new_one(directory):
  with DirectoryLock(directory) as lock:
    (directory / lock_lib.NAME).unlink()
    leave_lock(directory, host='elsewhere')
    after = (directory / lock_lib.NAME).read_bytes()
    with pytest.raises(UserError, match='removed, or taken over by another'):
      lock.check()  # also right after the process was frozen
  assert (directory / lock_lib.NAME).read_bytes() == after


def test_file_that_another_host_replaced_on_nfs_is_lost(directory, monkeypatch):
  def stale(_):
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

  with DirectoryLock(directory) as lock:
    with monkeypatch.context() as patched:
      patched.setattr(os, 'fstat', stale)
      with pytest.raises(UserError, match='taken over by another'):
        lock.check()
    lock.check()


def test_of_two_replacements_of_one_version_one_succeeds(directory):
  directory.mkdir()
  first, second, third = (LocalFile(directory / 'lock') for _ in range(3))
  assert first.create(b'one\n')
  assert not second.create(b'two\n')
  version = second.read()[1]
  assert second.replace(b'two\n', version)
  assert not third.replace(b'three\n', version)
  first.delete()  # is not its own any more
  assert third.read() == (b'two\n', 'two')
  second.delete()
  assert names(directory) == []


def test_claim_of_a_killed_process_does_not_last(directory):
  directory.mkdir()
  (directory / 'lock').write_text('one\n')
  lock = LocalFile(directory / 'lock')
  digest = hashlib.sha256(b'one').hexdigest()[:16]
  (directory / f'lock.claim-{digest}').touch()
  assert not lock.replace(b'two\n', 'one')
  assert lock.replace(b'two\n', 'one')


def test_link_that_nfs_made_twice_is_made(directory, monkeypatch):
  link = os.link

  def make_and_refuse(source, target):
    link(source, target)
    raise FileExistsError

  monkeypatch.setattr(os, 'link', make_and_refuse)
  assert_can_be_taken(directory)


def test_lock_works_on_file_systems_without_links(directory, monkeypatch):
  def refuse(*_):
    raise PermissionError

  monkeypatch.setattr(os, 'link', refuse)
  with DirectoryLock(directory), pytest.raises(InUse):
    DirectoryLock(directory).__enter__()
  assert_can_be_taken(directory)


def test_directory_that_cannot_be_made_is_reported(tmp_path):
  (tmp_path / 'file').touch()
  with (
    pytest.raises(UserError, match=r'file/run cannot be written to \(Not a di'),
    DirectoryLock(epath.Path(tmp_path) / 'file' / 'run'),
  ):
    pass


def test_directories_are_removed_again_if_nothing_was_written(tmp_path):
  with DirectoryLock(epath.Path(tmp_path) / 'a' / 'b'):
    pass
  assert list(tmp_path.iterdir()) == []
  with DirectoryLock(epath.Path(tmp_path) / 'a' / 'b'):
    (tmp_path / 'a' / 'file').touch()
  assert names(tmp_path) == ['a']
  assert names(tmp_path / 'a') == ['file']
