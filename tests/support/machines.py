"""Makes a process believe that its machine is another: for `torture.py`."""

import ctypes
import os
import time

_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 16384, 1 << 18


def nothing() -> None:
  """Leaves everything as it is."""


def fill_shared_memory() -> None:
  """Gives this process a /dev/shm of its own, with one page.

  Raises:
    OSError: it may not have a mount namespace of its own.
  """
  libc = ctypes.CDLL(None, use_errno=True)
  calls = (
    (libc.unshare, (_CLONE_NEWNS,)),
    (libc.mount, (b'none', b'/', None, _MS_REC | _MS_PRIVATE, None)),
    (libc.mount, (b'none', b'/dev/shm', b'tmpfs', 0, b'size=4096')),
  )
  for call, arguments in calls:
    if call(*arguments):
      number = ctypes.get_errno()
      raise OSError(number, os.strerror(number))


def set_clock_back() -> None:
  """Makes the clock of this process go back by a day after 5 seconds."""
  now, started = time.time, time.monotonic()

  def earlier():
    has_changed = time.monotonic() - started > 5
    return now() - 86400 * has_changed

  time.time = earlier
