"""Ends a process that waits for others which hang, or are gone."""

import os
import sys
import threading
import time

import jax
from etils import epath

EXIT_STATUS = 76  # EX_PROTOCOL of sysexits.h: the other side does not answer
PATIENCE = 10  # times as long: compiling, evaluating, saving


class Watchdog:
  """Ends the process when what is expected takes too long.

  While it is entered as a context, and if there are several processes. A host
  that died is noticed by jax.distributed, which gets no more signs of life from
  it; one that hangs may go on to give them.
  """

  def __init__(self, seconds: float, workdir: epath.Path):
    """Expects nothing yet.

    Args:
      seconds: `config.hang_timeout`.
      workdir: of the run, for the message.
    """
    self._seconds = seconds
    self._workdir = workdir
    self._expected = None
    self._ended = threading.Event()
    self._thread = None

  def __enter__(self) -> 'Watchdog':
    if jax.process_count() > 1:
      self._thread = threading.Thread(target=self._watch, daemon=True)
      self._thread.start()
    return self

  def __exit__(self, *_):
    self._ended.set()
    if self._thread:
      self._thread.join()

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
      if self._expected is None:
        continue
      what, seconds, deadline = self._expected
      if time.monotonic() > deadline:
        print(
          f'error: waited {seconds:g} s for {what} (config.hang_timeout = '
          f'{self._seconds:g}); a process hangs or is gone; the same command '
          f'goes on from the last checkpoint in {self._workdir}',
          file=sys.stderr,
          flush=True,
        )
        os._exit(EXIT_STATUS)
