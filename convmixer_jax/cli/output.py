"""Handles a standard output that is closed, as by `... | head -1`.

A command that only prints then ends with the status of SIGPIPE. One that writes
files continues without printing: see `keep_going`.
"""

import io
import os
import signal
import sys

from convmixer_jax.errors import UserError

CLOSED = 128 + signal.SIGPIPE  # exit status that a shell reports for SIGPIPE

_ERRORS = 'standard error'
_keeps_going = False


def guard() -> None:
  """Replaces `sys.stdout` and `sys.stderr`; a second call does nothing."""
  if isinstance(sys.stdout, _Guarded):
    return
  # Python has None for a stream that was closed before the start.
  sys.stdout = _Guarded(sys.stdout or _discard(), 'standard output')
  sys.stderr = _Guarded(sys.stderr or _discard(), _ERRORS)


def keep_going() -> None:
  """Makes errors of printing silent from now on, after one line on stderr."""
  global _keeps_going
  _keeps_going = True


def finish() -> None:
  """Flushes both streams; errors no longer change the exit status."""
  keep_going()
  for stream in (sys.stdout, sys.stderr):
    stream.flush()


def _discard():
  return open(os.devnull, 'w')


class _Guarded:
  """A text stream that handles its own errors."""

  def __init__(self, stream, name):
    self._stream, self._name = stream, name
    if isinstance(stream, io.TextIOWrapper):
      # A character that the terminal cannot show is not an error.
      stream.reconfigure(errors='backslashreplace')

  def write(self, text):
    self._try(self._stream.write, text)
    return len(text)

  def writelines(self, lines):
    self.write(''.join(lines))

  def flush(self):
    self._try(self._stream.flush)

  def _try(self, function, *arguments):
    try:
      function(*arguments)
    except OSError as error:
      self._discard()
      if _keeps_going:
        if self._name != _ERRORS:
          print(
            f'{self._name} cannot be written to ({error.strerror}); the '
            'command continues without it',
            file=sys.stderr,
            flush=True,
          )
        return
      if isinstance(error, BrokenPipeError) or self._name == _ERRORS:
        sys.exit(CLOSED)
      raise UserError(
        f'{self._name} cannot be written to ({error.strerror}); make room, or '
        'redirect it to another place'
      ) from error

  def _discard(self):
    """Discards what is in the buffer, and all that is written later."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, self._stream.fileno())
    os.close(devnull)

  def __getattr__(self, name):
    return getattr(self._stream, name)
