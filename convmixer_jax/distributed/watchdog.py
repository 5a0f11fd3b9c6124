"""Ends a process that waits for others which hang, or are gone."""

import os
import sys
import threading
import time
from typing import NoReturn

import jax

EXIT_STATUS = 76  # EX_PROTOCOL of sysexits.h: the other side does not answer
PATIENCE = 10  # times as long: compiling, evaluating, saving


class Watchdog:
  """Ends the process when what is expected takes too long, or others are gone.

  While it is entered as a context, and if there are several processes. It ends
  without a goodbye: to close a checkpoint or jax.distributed is to wait for the
  others.
  """

  def __init__(self, seconds: float):
    """Expects nothing yet.

    Args:
      seconds: `config.hang_timeout`.
    """
    self._seconds = seconds
    self._expected = None
    self._ended = threading.Event()
    self._thread = None

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
      short = ' '.join(str(error).split())[:200]
      _leave(f'another process seems to be gone ({short})')

  def expect(self, what: str, patience: int = 1) -> None:
    """Says what comes next, and that all before has come.

    Args:
      what: for the message.
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
        _leave(
          f'waited {seconds:g} s for {what} (config.hang_timeout = '
          f'{self._seconds:g}); another process hangs'
        )


def lost_others(error: BaseException | None) -> bool:
  """Whether it is what a process gets that computes with one that is gone."""
  if jax.process_count() == 1:
    return False
  if isinstance(error, jax.errors.JaxRuntimeError):
    return 'RESOURCE_EXHAUSTED' not in str(error)
  return 'Gloo' in str(error)  # CPUs' collectives, by way of a ValueError


def _leave(why: str) -> NoReturn:
  sys.stdout.flush()
  print(
    f'error: {why}; the same command goes on from the last checkpoint',
    file=sys.stderr,
    flush=True,
  )
  os._exit(EXIT_STATUS)
