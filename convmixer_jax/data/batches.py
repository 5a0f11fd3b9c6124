"""Iterates over batches, and ends the threads and processes that make them."""

import atexit
import errno
import os
import re
import signal
import weakref
from collections.abc import Iterator
from typing import Any

import grain

from convmixer_jax.data import worker_deaths
from convmixer_jax.errors import UserError

HostBatch = dict[str, Any]  # arrays, and lists of what stays on the host
_NO_ROOM = errno.ENOSPC, errno.ENOMEM, errno.EMFILE, errno.ENFILE


class Batches(Iterator[HostBatch]):
  """The batches of a Grain data set.

  Python waits at its end for the threads that make batches. They and the worker
  processes end with the last batch, at `close`, or with this object.
  """

  def __init__(self, dataset: grain.IterDataset):
    """Starts at the first batch.

    Args:
      dataset: of batches.

    Raises:
      UserError: the system has no room for the worker processes' memory.
    """
    self._iterator, self._dataset = None, dataset
    try:
      self._iterator = iter(dataset)
    except OSError as error:
      raise _explain(error) from error
    if not _open:
      atexit.unregister(_free_all)  # before other libraries end theirs
      atexit.register(_free_all)
    _open.add(self)

  def __next__(self) -> HostBatch:
    """Returns the next batch.

    Raises:
      UserError: a worker process died or has no room, or an example cannot be
        read.
    """
    if self._iterator is None:
      raise StopIteration
    try:
      batch = next(self._iterator)
    except StopIteration:
      self.close()
      raise
    except (OSError, RuntimeError) as error:
      self.close()
      raise _explain(error) from error
    for value in batch.values():
      _free_at_exit(value)
    return batch

  def close(self) -> None:
    """Ends the threads and worker processes; a second call does nothing."""
    iterator, self._iterator = self._iterator, None
    _open.discard(self)
    if iterator is not None:
      iterator.close()
      worker_deaths.end_workers(self._dataset)

  def __del__(self):
    if self.__dict__.get('_iterator') is not None:
      self.close()


def _explain(error: OSError | RuntimeError) -> Exception:
  """Returns what to do about worker processes, or else the same error."""
  if isinstance(error, OSError):
    if error.errno not in _NO_ROOM:
      return error
    why = os.strerror(error.errno)
    return UserError(
      f'worker processes cannot share memory ({why}); make room in /dev/shm, '
      'or give --config.input.num_workers=0 for threads'
    )
  code = re.search(
    r'terminated unexpectedly with exit code (-?\d+)', str(error)
  )
  if code is None:
    return error
  number = int(code[1])
  ended, hint = f'with status {number}', ''
  if number < 0:
    ended = f'by {signal.Signals(-number).name}'
  if number == -signal.SIGKILL:
    hint = ' (which the system does when memory is short)'
  elif number == -signal.SIGBUS:
    hint = ' (which the system does when /dev/shm is full)'
  return UserError(
    f'a worker process that makes batches was ended {ended}{hint}; give fewer '
    'by config.input.num_workers, or more memory; the same command resumes '
    'from the last checkpoint'
  )


_open: weakref.WeakSet[Batches] = weakref.WeakSet()
_shared: dict[int, weakref.ref] = {}  # arrays in shared memory, by id
_shared_types: set[type] = set()


def _free_at_exit(array: Any) -> None:
  """Has an array in shared memory freed when Python exits, if not before.

  Grain frees those of its workers in a pool of one thread, which Python would
  end before it has freed the last ones, and not those that are still in use;
  then it warns of leaked memory.
  """
  if not hasattr(array, '_unlink_on_del'):
    return
  _shared_types.add(type(array))
  key = id(array)
  _shared[key] = weakref.ref(array, lambda _: _shared.pop(key, None))


def _free_all() -> None:
  for batches in list(_open):
    batches.close()
  for reference in list(_shared.values()):
    array = reference()
    if array is not None and array._unlink_on_del:
      array._unlink_on_del = False
      array.shm.unlink()  # who uses it keeps it
  array_type: Any
  for array_type in _shared_types:
    if pool := array_type._del_thread_pool:
      pool.apply(int)  # returns once those before it are done
