"""Whether processes can make batches here; threads make the same ones."""

import ast
import multiprocessing
import pathlib
import sys
from types import FrameType

from convmixer_jax import limits

_THREADS_OF_A_WORKER = 20  # with those of the libraries that it imports
_MIB = 2**20


def batches_in_flight(num_workers: int, buffer_size: int) -> int:
  """Returns how many batches are in shared memory at most.

  Of each worker: those in its queue, as many again in the queue behind it, one
  being made and one being handed over; and the one in use.

  Args:
    num_workers: processes.
    buffer_size: batches that each has ready.
  """
  return num_workers * (2 * buffer_size + 2) + 1


def find_obstacle(num_workers: int, num_bytes: int) -> str | None:
  """Returns why worker processes would fail here, and what would help.

  Args:
    num_workers: how many are to be started.
    num_bytes: that they need of shared memory.

  Returns:
    None if nothing is in their way.
  """
  if multiprocessing.current_process().daemon:
    return 'this process is a worker itself, which may not start others'
  if script := _script_without_guard():
    return (
      f'worker processes import {script}, which would train again; put what '
      "it runs under `if __name__ == '__main__':`"
    )
  free = limits.free_shared_memory()
  if num_bytes > free:
    needed = -(-num_bytes // _MIB)
    return (
      f'{num_workers} worker processes need {needed} MiB of shared memory, and '
      f'/dev/shm has {free // _MIB} MiB free; in Docker, --shm-size={needed}m '
      'or --ipc=host gives more'
    )
  if _THREADS_OF_A_WORKER * num_workers > limits.free_processes():
    return (
      f'{num_workers} worker processes need more threads than pids.max of '
      'this cgroup allows; in Docker, --pids-limit raises it'
    )
  return None


def _script_without_guard() -> str | None:
  """Returns the script that runs now, unless workers can import it.

  Each worker imports the main module by another name. If the call that led here
  is not under `if __name__ == ...`, the worker would make it, too.
  """
  main = sys.modules.get('__main__')
  path = getattr(main, '__file__', None)
  name = getattr(getattr(main, '__spec__', None), 'name', '')
  if path is None or name.endswith('__main__'):
    return None  # interactive, or a package, which workers do not import
  if not pathlib.Path(path).is_file():  # '<stdin>'
    return path
  lines = [
    frame.f_lineno
    for frame in _all_frames()
    if frame.f_globals is vars(main) and frame.f_code.co_name == '<module>'
  ]
  if not lines:
    return None
  try:
    statements = ast.parse(pathlib.Path(path).read_bytes()).body
  except (OSError, SyntaxError, ValueError):
    return None
  for statement in statements:
    if statement.lineno <= lines[-1] <= (statement.end_lineno or 0):
      return None if _is_guard(statement) else path
  return None


def _all_frames() -> list[FrameType]:
  """Returns the frames of all threads, of each from the innermost outwards."""
  frames = []
  frame: FrameType | None
  for frame in sys._current_frames().values():
    while frame is not None:
      frames.append(frame)
      frame = frame.f_back
  return frames


def _is_guard(statement: ast.stmt) -> bool:
  return isinstance(statement, ast.If) and any(
    isinstance(node, ast.Name) and node.id == '__name__'
    for node in ast.walk(statement.test)
  )
