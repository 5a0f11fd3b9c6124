"""Ends a process that has failed, whatever threads it has.

Python waits at its end for all threads. Libraries have some that wait for what
never comes after an error, such as Orbax's for a directory that could not be
made.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

from convmixer_jax.errors import InUse, Preempted

_PATIENCE = 8  # seconds


@contextlib.contextmanager
def ends_soon_after_errors() -> Iterator[None]:
  """Makes the process end within seconds if the block raises an error.

  The exit status stays that of the error. Not after success, or a preemption,
  after which the processes of a run wait until all of them have saved.
  """
  try:
    yield
  except SystemExit as end:
    status = end.code
    if status is None:
      status = 0
    elif not isinstance(status, int):
      status = 1
    is_refused = isinstance(end.__context__, InUse)  # has that status, too
    if is_refused or status not in (0, Preempted.EXIT_STATUS):
      _end_within(_PATIENCE, status)
    raise
  except BaseException:
    _end_within(_PATIENCE, 1)
    raise


def _end_within(seconds: float, status: int) -> None:
  def end():
    time.sleep(seconds)
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(Exception):
        stream.flush()
    os._exit(status)

  # A daemon, for which Python does not wait.
  threading.Thread(target=end, daemon=True).start()
