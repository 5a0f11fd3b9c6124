"""SIGTERM and SIGINT: all processes of a run stop after the same step."""

import os
import signal
import socket
import sys
import threading

import jax
from etils import epath
from jax.experimental import multihost_utils

from convmixer_jax.errors import INTERRUPTED, Preempted, UserError
from convmixer_jax.notes import note


class Signals:
  """Receives SIGTERM and SIGINT (Ctrl-C) while entered as a context.

  A second SIGINT ends the process at once, with status `INTERRUPTED`. An error
  after a signal is assumed to be its consequence, for example when the signal
  also ended a process that reads images.

  A thread receives the signals, because a Python handler would only run after
  XLA has compiled or a collective has ended.
  """

  def __init__(self, workdir: epath.Path):
    """Receives no signals yet.

    Args:
      workdir: of the run, for the messages.
    """
    self._workdir = workdir
    self._received: str | None = None

  def __enter__(self) -> 'Signals':
    self._is_distributed = jax.distributed.is_initialized()
    self._handlers = {}
    if threading.current_thread() is not threading.main_thread():
      note(
        'training runs in a thread, which signals do not reach: the last '
        'checkpoint is what a stopped run resumes from'
      )
      return self  # only the main thread may install handlers
    watched = [signal.SIGINT]
    if not self._is_distributed:  # else jax.distributed handles SIGTERM
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
        f'{error}; the same command resumes from the last checkpoint in '
        f'{self._workdir}'
      ) from error

  def stop(self, steps_made: int) -> bool:
    """Returns whether to stop now; all processes get the same answer.

    If only one process receives the signal, jax.distributed makes all of them
    agree on the first step that none has reached. Without a signal a call
    takes some microseconds.

    Args:
      steps_made: steps since this start of the process, in order. Not since
        the start of the run: a process that has not called this yet counts as
        one that made no steps.
    """
    if self._is_distributed:
      return multihost_utils.reached_preemption_sync_point(steps_made)
    return self._received is not None

  def preempted(self, step: int) -> Preempted:
    """Returns the error to raise once saving the state of `step` has begun."""
    kept = f'step {step} is saved in' if step else 'nothing was saved yet in'
    return Preempted(
      f'stopped by {self._received or "SIGTERM to one of the processes"}: '
      f'{kept} {self._workdir}, and the same command resumes from there'
    )

  def _watch(self):
    interrupts = 0
    while number := self._reader.recv(1):
      number = signal.Signals(number[0])
      interrupts += number == signal.SIGINT
      if interrupts == 2:
        print('stopped without saving', file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)
      if number not in self._handlers or self._received:
        continue
      self._received = number.name
      message = f'{number.name}: saving at the end of this step'
      if number == signal.SIGINT:
        message += '; press Ctrl-C again to stop without saving'
        if self._is_distributed:  # makes all processes agree
          os.kill(os.getpid(), signal.SIGTERM)
      print(message, file=sys.stderr, flush=True)
