"""Keeps a worker process that is killed from blocking the process it works for.

A worker that is killed while it hands over a batch leaves part of it in a pipe,
and Grain would wait for the rest: the reading process itself holds the other
end of the pipe open. One that is killed while it holds a lock leaves it locked.

After an error, Grain closes the iterators in use only, not one that a thread of
its own has just made or is making; `end_workers` closes these too.

Python believes a process that has just ended to be alive if another thread is
asking for its exit status. Grain would then kill it and leave the batches that
it had ready in memory; `_ask_in_turn` lets one thread ask at a time.
"""

import contextlib
import gc
import multiprocessing.connection
import multiprocessing.process
import os
import queue
import threading
import time
import weakref
from typing import Any

import grain
from grain._src.python.dataset.transformations import process_prefetch

_Iterator = process_prefetch.ProcessPrefetchDatasetIterator
_LONGEST = 5  # seconds for reading what a dead worker left


def watch_workers() -> None:
  """Makes Grain raise its RuntimeError whenever a worker process has died.

  For all iterators that are made from now on; a second call does nothing.
  """
  if _Iterator.start_prefetch is not _start_and_watch:
    _Iterator.start_prefetch = _start_and_watch
    _Iterator._process_failed = _has_failed
    _Iterator.__next__ = _next
    _Iterator._stop_prefetch = _stop_and_free


def end_workers(dataset: grain.IterDataset) -> None:
  """Waits until no worker process of a closed data set is left.

  Args:
    dataset: what `mp_prefetch` returned, or one without workers.
  """
  shards = [
    shard
    for interleaved in getattr(dataset, 'parents', ())
    for shard in getattr(interleaved, '_datasets', ())
  ]
  ended = {parent for shard in shards for parent in shard.parents}
  with _starting:
    _ended.update(ended)
    iterators = [x for x in _running if x._iter_parent in ended]
    watchers = [x for x, parent in _watchers.items() if parent in ended]
  for iterator in iterators:
    iterator.close()
  for watcher in watchers:
    # It waits for its worker: another thread may be closing the iterator. And
    # Python's end would cut it short while it frees an iterator's locks.
    if watcher is not threading.current_thread():
      watcher.join(_LONGEST)


_start = _Iterator.start_prefetch
_read = _Iterator.__next__
_stop = _Iterator._stop_prefetch
# Python may collect garbage, which closes iterators, within one of these.
_replacing = threading.RLock()
_starting = threading.RLock()
_running: weakref.WeakSet[Any] = weakref.WeakSet()  # iterators with workers
_watchers: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_ended: weakref.WeakSet[grain.IterDataset] = weakref.WeakSet()


def _start_and_watch(iterator: Any) -> None:
  if iterator._prefetch_process is not None:
    _start(iterator)  # checks that it is open
    return
  with _starting, _without_collection():
    if iterator._iter_parent in _ended:
      raise ValueError('the data set is closed')  # a thread of Grain's sees it
    _start(iterator)
    _running.add(iterator)
    process = iterator._prefetch_process
    _ask_in_turn(process)
    watcher = threading.Thread(
      target=_watch, args=(weakref.ref(iterator), process), daemon=True
    )
    _watchers[watcher] = iterator._iter_parent
    watcher.start()


@contextlib.contextmanager
def _without_collection():
  """Keeps Python from closing an iterator whose threads wait for `_starting`.

  Closing waits for these threads. To be used under that lock, by one thread.
  """
  was_enabled = gc.isenabled()
  gc.disable()
  try:
    yield
  finally:
    if was_enabled:
      gc.enable()


def _ask_in_turn(process: Any) -> None:
  """Lets one thread at a time ask whether a process has ended."""
  asking = threading.RLock()  # see `_starting`
  ask = process._popen.poll

  def ask_in_turn(options: int = os.WNOHANG) -> int | None:
    if not options & os.WNOHANG:  # wait for its end, but not with the lock
      multiprocessing.connection.wait([process.sentinel])
    with asking:
      return ask(options)

  process._popen.poll = ask_in_turn


def _stop_and_free(iterator: Any) -> None:
  process = iterator._prefetch_process
  _stop(iterator)
  if process is not None and _wait_for_exit(process):
    _replace_shared(iterator, process)  # Grain had to kill it


def _next(iterator: Any) -> Any:
  try:
    return _read(iterator)
  except (EOFError, OSError) as error:  # the end of the pipe
    process = iterator._prefetch_process
    code = None if process is None else _wait_for_exit(process)
    if not code:
      raise
    raise RuntimeError(
      f'Worker process was terminated unexpectedly with exit code {code}.'
    ) from error


def _has_failed(iterator: Any) -> bool:
  process = iterator._prefetch_process
  if process is None or not process.exitcode:
    return False
  _replace_shared(iterator, process)
  return True


def _watch(reference, process):
  multiprocessing.connection.wait([process.sentinel])
  iterator = reference()
  if _wait_for_exit(process) and iterator is not None and not iterator._closed:
    _replace_shared(iterator, process)


def _replace_shared(iterator, process):
  """Replaces what a dead worker may have left locked or half written."""
  with _replacing:
    if getattr(iterator, '_replaced_for', None) is process:
      return
    iterator._replaced_for = process
    context, buffer = iterator._process_ctx, iterator._buffer
    iterator._set_state_request_count = context.Value('i', 0)
    iterator._prefetch_should_stop = context.Event()
    iterator._buffer = context.Queue()
    buffer._writer.close()  # the last one: who reads sees the end
  end = time.monotonic() + _LONGEST
  with contextlib.suppress(EOFError, OSError):
    while time.monotonic() < end:
      with contextlib.suppress(queue.Empty):  # another thread may be reading
        batch = buffer.get(timeout=0.1)
        process_prefetch.shared_memory_array.unlink_shm(batch)


def _wait_for_exit(process: multiprocessing.process.BaseProcess) -> int:
  """Returns the exit status of a process that has closed its pipes."""
  process.join(_LONGEST)
  return process.exitcode or 0
