"""Ends a process that waits for another process that hangs or has died."""

import os
import sys
import threading
import time
from typing import NoReturn

import jax

from convmixer_jax.errors import one_line

EXIT_STATUS = 76  # EX_PROTOCOL of sysexits.h: the other side does not answer
PATIENCE = 10  # times the limit, for compiling, evaluating and saving


class Watchdog:
  """Ends the process when the next event takes too long or another one died.

  It works while entered as a context, and only if there are several processes.
  The process exits without cleanup, because closing a checkpoint or
  jax.distributed would wait for the other processes.
  """

  def __init__(self, seconds: float):
    """Sets the limit; nothing is expected yet.

    Args:
      seconds: `config.hang_timeout`.
    """
    self._seconds = seconds
    self._expected: tuple[str, float, float] | None = None
    self._ended = threading.Event()
    self._thread: threading.Thread | None = None

  def __enter__(self) -> 'Watchdog':
    if jax.process_count() > 1:
      self._thread = threading.Thread(target=self._watch, daemon=True)
      self._thread.start()
    return self

  def __exit__(self, kind, error, traceback):
    self._ended.set()
    if self._thread:
      self._thread.join()
    if lost_others(error):
      _exit(f'another process seems to have died ({one_line(error)})')

  def expect(self, what: str, patience: int = 1) -> None:
    """Starts the limit for the next event, and ends that of the last one.

    Args:
      what: the event, for the message.
      patience: how many times `config.hang_timeout` it may take.
    """
    seconds = patience * self._seconds
    self._expected = what, seconds, time.monotonic() + seconds

  def _watch(self):
    while not self._ended.wait(self._seconds / 10):
      now = time.monotonic()  # before the deadline is read, which moves on
      if self._expected is None:
        continue
      what, seconds, deadline = self._expected
      if now > deadline:
        _exit(
          f'waited {seconds:g} s for {what} (config.hang_timeout = '
          f'{self._seconds:g}); another process hangs'
        )


def lost_others(error: BaseException | None) -> bool:
  """Whether the error means that another process of the run has died."""
  if jax.process_count() == 1:
    return False
  if isinstance(error, jax.errors.JaxRuntimeError):
    return 'RESOURCE_EXHAUSTED' not in str(error)
  return 'Gloo' in str(error)  # CPUs' collectives, by way of a ValueError


def _exit(why: str) -> NoReturn:
  sys.stdout.flush()
  print(
    f'error: {why}; the same command resumes from the last checkpoint',
    file=sys.stderr,
    flush=True,
  )
  os._exit(EXIT_STATUS)
