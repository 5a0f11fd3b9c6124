"""What this process may use, where a container or a shell allows it less.

Cgroups (v1 and v2) limit memory, processor time and processes, as Docker,
Kubernetes and Slurm set them up; the shell has limits of its own (`ulimit`).
Whatever cannot be found out counts as not limited.
"""

import contextlib
import math
import os
import pathlib
import sys
from collections.abc import Iterator
from types import ModuleType

resource: ModuleType | None
try:
  import resource
except ImportError:  # not Unix
  resource = None

_SHARED_MEMORY = '/dev/shm'
_OPEN_MAX = 10_240  # of macOS, where the hard limit is infinite but refused
_CGROUPS = 'sys/fs/cgroup'


def raise_open_files() -> float:
  """Allows as many open files as the hard limit does; returns the number."""
  if resource is None:
    return math.inf
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  for wanted in (hard, max(soft, _OPEN_MAX)):
    if soft != hard:
      with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
        break
  return math.inf if soft == resource.RLIM_INFINITY else soft


def num_cores(root: str = '/') -> int:
  """Returns how many cores the process may use, at least 1.

  Args:
    root: of the file system with `proc` and `sys`.
  """
  if hasattr(os, 'sched_getaffinity'):
    cores = len(os.sched_getaffinity(0))
  else:
    cores = os.cpu_count() or 1
  shares = [cores]
  for directory in _cgroup_directories('cpu', root):
    v1 = [f'cpu.cfs_{name}_us' for name in ('quota', 'period')]
    both = _numbers(directory / 'cpu.max', 2)
    both = both or [n for name in v1 for n in _numbers(directory / name)]
    if len(both) == 2 and min(both) > 0:  # v1 has -1 for no limit
      shares.append(math.ceil(both[0] / both[1]))
  return min(shares)


def memory_bytes(root: str = '/') -> float:
  """Returns how much memory the process may use; infinite if not known.

  Args:
    root: of the file system with `proc` and `sys`.
  """
  limits = [math.inf]
  with contextlib.suppress(ValueError, OSError, AttributeError):
    limits.append(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))
  if resource is not None:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits.append(math.inf if soft == resource.RLIM_INFINITY else soft)
  for directory in _cgroup_directories('memory', root):
    for name in ('memory.max', 'memory.high', 'memory.limit_in_bytes'):
      limits += _numbers(directory / name)
  return min(limits)


def free_shared_memory(path: str = _SHARED_MEMORY) -> float:
  """Returns the free bytes of shared memory; 0 where there is none.

  Infinite where it is not a file system, as on macOS.

  Args:
    path: where it is mounted.
  """
  if sys.platform != 'linux':
    return math.inf
  try:
    found = os.statvfs(path)
  except (OSError, AttributeError):
    return 0
  if not os.access(path, os.W_OK):
    return 0
  return found.f_bavail * found.f_frsize


def free_processes(root: str = '/') -> float:
  """Returns how many threads and processes a cgroup still allows to start.

  Args:
    root: of the file system with `proc` and `sys`.
  """
  free = [math.inf]
  for directory in _cgroup_directories('pids', root):
    most = _numbers(directory / 'pids.max')
    now = _numbers(directory / 'pids.current')
    if most and now:
      free.append(max(0, most[0] - now[0]))
  return min(free)


def _cgroup_directories(controller: str, root: str) -> Iterator[pathlib.Path]:
  """Yields the directories, up to the top, of this process's cgroups.

  In a container the path in /proc may be that of the host, whose directories
  are not there: its own then are those at the top.
  """
  try:
    lines = (pathlib.Path(root) / 'proc/self/cgroup').read_text().splitlines()
  except OSError:
    return
  for line in lines:
    _, controllers, path = line.split(':', maxsplit=2)
    names = [name for name in controllers.split(',') if name]
    if names and controller not in names:
      continue
    top = pathlib.Path(root) / _CGROUPS
    if names:
      # Mounted under all names, or linked by each; hybrid v2 in `unified`.
      top = next(
        (top / k for k in (controllers, controller) if (top / k).is_dir()), top
      )
    inner = top / path.lstrip('/')
    for directory in (inner, *inner.parents):
      if directory.is_relative_to(top):
        yield directory


def _numbers(path: pathlib.Path, count: int = 1) -> list[int]:
  """Returns the numbers in a file; none unless there are `count` of them."""
  try:
    words = path.read_text().split()
  except (OSError, UnicodeDecodeError):
    return []
  if len(words) != count:
    return []
  numbers = [int(word) for word in words if word.lstrip('-').isdigit()]
  return numbers if len(numbers) == count else []
