"""SIGTERM and SIGINT: all processes of a run stop after the same step."""

import os
import signal
import socket
import sys
import threading

import jax
from etils import epath
from jax.experimental import multihost_utils

from convmixer_jax.errors import (
  INTERRUPTED,
  Interrupted,
  Preempted,
  UserError,
)
from convmixer_jax.notes import note

_is_command = False


def exit_at_second_interrupt() -> None:
  """Lets a second SIGINT end the process, which is a command, at once."""
  global _is_command
  _is_command = True


class Signals:
  """Receives SIGTERM and SIGINT (Ctrl-C) while entered as a context.

  A second SIGINT ends a command at once, with status `INTERRUPTED`; elsewhere,
  as in a notebook, it raises `Interrupted` as soon as Python runs. An error
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
    self._interrupts = 0  # as the thread has counted them
    self._handled = 0  # as the main thread has

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
      number: signal.signal(number, self._handle) for number in watched
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
        f'{error}; {_again()} resumes from the last checkpoint in '
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
    kind = Interrupted if self._interrupts else Preempted
    return kind(
      f'stopped by {self._received or "SIGTERM to one of the processes"}: '
      f'{kept} {self._workdir}, and {_again()} resumes from there'
    )

  def _handle(self, number, frame):
    """Runs in the main thread; two signals may be one call."""
    del frame
    self._handled += number == signal.SIGINT
    if max(self._handled, self._interrupts) > 1 and not _is_command:
      raise Interrupted(
        f'stopped by a second SIGINT, without saving; {_again()} resumes from '
        f'the last checkpoint in {self._workdir}'
      )

  def _watch(self):
    while number := self._reader.recv(1):
      number = signal.Signals(number[0])
      self._interrupts += number == signal.SIGINT
      if self._interrupts == 2 and _is_command:
        print('stopped without saving', file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)
      if number not in self._handlers or self._received:
        continue
      self._received = number.name
      message = f'{number.name}: saving at the end of this step'
      if number == signal.SIGINT:
        how = 'press Ctrl-C again' if _is_command else 'interrupt again'
        message += f'; {how} to stop without saving'
        if self._is_distributed:  # makes all processes agree
          os.kill(os.getpid(), signal.SIGTERM)
      print(message, file=sys.stderr, flush=True)


def _again():
  return 'the same command' if _is_command else 'the same call'
