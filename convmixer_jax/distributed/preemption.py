"""SIGTERM and SIGINT: noted at once, acted on by all processes after a step."""

import os
import signal
import socket
import sys
import threading

import jax
from etils import epath
from jax.experimental import multihost_utils

from convmixer_jax.errors import INTERRUPTED, Preempted, UserError


class Signals:
  """Notes SIGTERM and SIGINT (Ctrl-C) while it is entered as a context.

  A second SIGINT ends the process at once, with status `INTERRUPTED`. An error
  after a signal is taken for its consequence, such as a reader of images that
  it ended.

  A thread takes the signals in: a handler of Python's would have to wait until
  XLA has compiled, or until a collective ends.
  """

  def __init__(self, workdir: epath.Path):
    """Notes nothing yet.

    Args:
      workdir: of the run, for the messages.
    """
    self._workdir = workdir
    self._received: str | None = None

  def __enter__(self) -> 'Signals':
    self._is_distributed = jax.distributed.is_initialized()
    self._handlers = {}
    if threading.current_thread() is not threading.main_thread():
      return self  # only the main thread may ask for signals
    watched = [signal.SIGINT]
    if not self._is_distributed:  # there, jax.distributed has SIGTERM
      watched.append(signal.SIGTERM)
    self._reader, self._writer = socket.socketpair()
    self._writer.setblocking(False)
    self._wakeup_fd = signal.set_wakeup_fd(self._writer.fileno())
    self._handlers = {
      number: signal.signal(number, lambda *_: None) for number in watched
    }
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, kind, error, traceback):
    if self._handlers:
      for number, handler in self._handlers.items():
        signal.signal(number, handler)
      signal.set_wakeup_fd(self._wakeup_fd)
      self._writer.close()
      self._thread.join()
      self._reader.close()
    if (
      self._received
      and isinstance(error, Exception)
      and not isinstance(error, (UserError, Preempted))
    ):
      raise Preempted(
        f'stopped by {self._received}, and then by {type(error).__name__}: '
        f'{error}; the same command goes on from the last checkpoint in '
        f'{self._workdir}'
      ) from error

  def stop(self, steps_made: int) -> bool:
    """Tells whether to stop now: the same in all processes.

    One process may get the signal alone. jax.distributed then has all of them
    agree on the first step that none has reached; until then, asking costs
    some microseconds.

    Args:
      steps_made: since this start, to be given in order. Not since the first
        start: a process that has not asked yet takes part in the agreement as
        one that made none.
    """
    if self._is_distributed:
      return multihost_utils.reached_preemption_sync_point(steps_made)
    return self._received is not None

  def preempted(self, step: int) -> Preempted:
    """Returns the error to raise once the state after `step` is on its way."""
    kept = f'step {step} is saved in' if step else 'nothing was saved yet in'
    return Preempted(
      f'stopped by {self._received or "SIGTERM to one of the processes"}: '
      f'{kept} {self._workdir}, and the same command goes on from there'
    )

  def _watch(self):
    interrupts = 0
    while number := self._reader.recv(1):
      number = signal.Signals(number[0])
      interrupts += number == signal.SIGINT
      if interrupts == 2:
        print('left without saving', file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)
      if number not in self._handlers or self._received:
        continue
      self._received = number.name
      message = f'{number.name}: saving at the end of this step'
      if number == signal.SIGINT:
        message += '; press Ctrl-C again to leave without'
        if self._is_distributed:  # has all processes agree
          os.kill(os.getpid(), signal.SIGTERM)
      print(message, file=sys.stderr, flush=True)
