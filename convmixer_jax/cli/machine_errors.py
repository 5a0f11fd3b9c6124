"""What the machine refuses, in one line: memory, files, room, threads."""

import errno
import os

from convmixer_jax.errors import one_line

_ADVICE = {
  errno.EMFILE: 'raise the limit of open files: ulimit -n, in Docker --ulimit',
  errno.ENFILE: 'the machine has too many open files; end other programs',
  errno.ENOSPC: 'make room there, or choose another place',
  errno.EDQUOT: 'make room in the quota, or choose another place',
  errno.EROFS: 'it is read-only; choose another place',
  errno.ENOMEM: 'give the container or the shell more memory',
  errno.EAGAIN: (
    'raise the limit of processes: ulimit -u, in Docker --pids-limit'
  ),
}
_NO_THREAD = "can't start new thread"
_NO_TEMPORARY = 'No usable temporary directory'
_NO_BACKEND = 'Unable to initialize backend'


def describe(error: Exception) -> str | None:
  """Returns what was refused and what helps; None for any other error."""
  text = one_line(error)
  if isinstance(error, MemoryError):
    return f'memory ran out ({text}); {_ADVICE[errno.ENOMEM]}'
  if isinstance(error, RuntimeError):
    if _NO_THREAD in text:
      return f'no further thread can be started; {_ADVICE[errno.EAGAIN]}'
    if text.startswith(_NO_BACKEND):
      given = os.environ.get('JAX_PLATFORMS')
      return f'JAX_PLATFORMS = {given!r} does not work here ({text}); unset it'
    if text.startswith('RESOURCE_EXHAUSTED'):
      return f'memory ran out ({text}); give a smaller batch size'
  if isinstance(error, OSError):
    if _NO_TEMPORARY in text:
      return 'there is no temporary directory with room; set $TMPDIR'
    if error.errno in _ADVICE:
      return f'{text}; {_ADVICE[error.errno]}'
  return None
