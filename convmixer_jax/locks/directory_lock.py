"""Keeps a second process from writing to a directory: its `in_use.lock`.

The file names the host, the process and its start. A holder that has ended is
recognised, so that a job that was killed starts again by itself:

- on the same machine, when there is no such process any more, or another one
  has its number, as Linux's /proc shows;
- anywhere else, when the holder has not refreshed the file for `STALE_AFTER`
  seconds. The starter watches the file for so long, by its own clock; clocks
  of two hosts are never compared.
"""

import contextlib
import datetime
import json
import os
import pathlib
import socket
import sys
import threading
import time
import uuid
from typing import Any

from etils import epath

from convmixer_jax.errors import InUse, UserError, one_line
from convmixer_jax.json_text import parse_json
from convmixer_jax.locks.lock_file import open_lock_file
from convmixer_jax.locks.made_directory import made_directory

NAME = 'in_use.lock'
STALE_AFTER = 120  # seconds without a refresh
_REFRESH_EVERY = 15  # seconds
_POLL = 2  # seconds between looks at another holder's file
_TRIES = 10


def is_of_lock(name: str) -> bool:
  """Returns whether a file in a directory belongs to its lock."""
  return name.startswith(NAME)


class DirectoryLock:
  """The lock of a directory, held while entered as a context."""

  def __init__(self, directory: epath.Path, name: str = '--workdir'):
    """Does nothing yet.

    Args:
      directory: see `made_directory`.
      name: of the flag that gives it, for messages.
    """
    self._directory, self._name = directory, name
    self._file = open_lock_file(directory / NAME)
    self._owner = None
    self._beats = 0
    self._beating = threading.Lock()
    self._lost: str | None = None
    self._ended = threading.Event()
    self._thread: threading.Thread | None = None
    self._made = contextlib.ExitStack()

  def __enter__(self) -> 'DirectoryLock':
    """Takes the lock.

    Raises:
      InUse: another process holds it.
      UserError: the directory cannot be written to.
    """
    try:
      with contextlib.ExitStack() as made:
        made.enter_context(made_directory(self._directory))
        self._take()
        self._made = made.pop_all()
    except UserError:
      raise
    except Exception as error:  # OSError, or any of Google's client library
      text = getattr(error, 'strerror', None) or one_line(error)
      raise UserError(
        f'{self._name}={self._directory} cannot be written to ({text}); make '
        'room or give another directory'
      ) from error
    self._thread = threading.Thread(target=self._refresh, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, kind, error, traceback):
    self._ended.set()
    if self._thread:
      self._thread.join()
    with contextlib.suppress(Exception):  # else it becomes stale
      self._file.delete()
    self._made.close()

  def check(self) -> None:
    """Checks that the lock was not taken over or removed until now.

    Raises:
      UserError: it was; this process must not write any more.
    """
    self._beat()
    if self._lost:
      raise UserError(
        f'{self._name}={self._directory}: {self._lost}; this process stops '
        'before it writes to what another may use'
      )

  def _take(self):
    for _ in range(_TRIES):
      self._owner = describe_process()
      if self._file.create(self._content()):
        return
      found = self._file.read()
      if found is None:  # released in this moment
        continue
      content, version = found
      if self._is_held(*found):
        raise self._in_use(content)
      if self._file.replace(self._content(), version):
        print(
          f'{self._directory} was in use by {_who(content)}, which has ended; '
          'this process takes over'
        )
        return
      time.sleep(1)  # another process is about to take over
    raise self._in_use(found[0] if found else b'')

  def _is_held(self, content, version):
    """Returns whether the holder of the lock is alive; may watch it."""
    is_alive = is_running(_parse(content))
    if is_alive is not None:
      return is_alive
    print(
      f'{self._directory} was last used by {_who(content)}; watching for '
      f'{STALE_AFTER} s whether that process is alive',
      flush=True,
    )
    give_up = time.monotonic() + STALE_AFTER
    while time.monotonic() < give_up:
      time.sleep(_POLL)
      found = self._file.read()
      if found is None:
        return False
      if found != (content, version):
        return True
    return False

  def _in_use(self, content):
    return InUse(
      f'{self._name}={self._directory} is in use by {_who(content)}; wait '
      f'until it has ended, stop it, or give another {self._name}'
    )

  def _content(self):
    """Returns the file's content; all of a process have the same length."""
    token = self._owner['token']
    text = json.dumps(self._owner | {'refreshed': f'{self._beats:09}'})
    return f'{token}\n{text}\n'.encode()

  def _refresh(self):
    while not self._ended.wait(_REFRESH_EVERY):
      self._beat()

  def _beat(self):
    with self._beating:
      self._beats += 1
      try:
        self._file.refresh(self._content())
        self._lost = None
      except FileNotFoundError:
        self._lost = f'its {NAME} was removed, or taken over by another process'
      except OSError:  # storage that does not answer now may do so later
        pass


def describe_process() -> dict[str, Any]:
  """Returns what identifies this process, for `is_running`."""
  now = datetime.datetime.now(datetime.UTC)
  return {
    'token': uuid.uuid4().hex,
    'host': socket.gethostname(),
    'machine': _machine(),
    'pid': os.getpid(),
    'process_start': _process_start(os.getpid()),
    'since': f'{now:%Y-%m-%d %H:%M:%S} UTC',
    'command': ' '.join(pathlib.Path(part).name for part in sys.argv[:1]),
  }


def is_running(owner: dict[str, Any] | None) -> bool | None:
  """Returns whether a process is running; None if that cannot be known here.

  Args:
    owner: as `describe_process` gives it; None if it could not be read.
  """
  here = _machine()
  if not owner or here is None or owner.get('machine') != here:
    return None
  start = _process_start(owner.get('pid'))
  if start is None and _is_hidden(owner.get('pid')):
    return None
  return start is not None and start == owner.get('process_start')


def _machine() -> str | None:
  """Returns what processes have in common that see each other's numbers.

  The host's name, its boot, and the namespace of process numbers: containers
  of one machine have different ones.
  """
  try:
    boot = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    return f'{socket.gethostname()} {boot} {os.readlink("/proc/self/ns/pid")}'
  except OSError:  # not Linux
    return None


def _process_start(pid: Any) -> int | None:
  """Returns when a process started, in ticks since boot; None if it is gone."""
  try:
    text = pathlib.Path(f'/proc/{int(pid)}/stat').read_text()
  except (OSError, TypeError, ValueError):
    return None
  state, *fields = text.rpartition(')')[2].split()  # a name may have spaces
  return None if state in 'ZX' else int(fields[18])


def _is_hidden(pid: Any) -> bool:
  """Returns whether there is such a process, of another user (`hidepid`)."""
  try:
    os.kill(int(pid), 0)
  except PermissionError:
    return True
  except (OSError, TypeError, ValueError):
    pass
  return False


def _parse(content: bytes) -> dict[str, Any] | None:
  try:
    owner = parse_json(content.partition(b'\n')[2].decode())
  except ValueError:
    return None
  return owner if isinstance(owner, dict) else None


def _who(content: bytes) -> str:
  owner = _parse(content) or {}
  if not owner:
    return 'another process'
  process, host, since = (owner.get(k, '?') for k in ('pid', 'host', 'since'))
  return f'process {process} on {host} since {since}'
