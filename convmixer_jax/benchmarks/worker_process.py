"""A worker process of a benchmark, which answers requests in JSON."""

import contextlib
import json
import os
import pathlib
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, cast

_SECONDS_TO_END = 10  # after its standard input was closed


class WorkerProcess:
  """A process that answers each request on standard input by a line of JSON.

  It has its own process group, so that it can be killed with all processes that
  it started.

  Raises:
    OSError: on construction, if the command cannot be started.
  """

  def __init__(
    self,
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
  ):
    """Starts the process.

    Args:
      command: program and arguments.
      environment: variables to add to those of this process.
      log: file for its standard error; None: that of this process.
    """
    self._process = subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=log,
      env=os.environ | dict(environment or {}),
      start_new_session=True,
    )
    self._input = cast(IO[bytes], self._process.stdin)
    self._output = cast(IO[bytes], self._process.stdout)
    self._lines: queue.Queue[bytes] = queue.Queue()
    self._reader = threading.Thread(target=self._read, daemon=True)
    self._reader.start()

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    if kind is not None:
      self.kill()
    self.close()

  def _read(self):
    for line in self._output:
      self._lines.put(line)
    self._lines.put(b'')

  def ask(self, request: bytes, seconds: float | None = None) -> dict[str, Any]:
    """Sends a request and waits for the answer.

    Raises:
      OSError: the answer is an `error`.
      TimeoutError: there was no answer within `seconds`.
      ValueError: the process died, or the answer is not JSON.
    """
    with contextlib.suppress(BrokenPipeError):  # it ended; the answer tells
      self._input.write(request)
      self._input.flush()
    line = self._next_line(seconds)
    if not line:
      raise ValueError('it ended without an answer')
    answer = json.loads(line)
    if 'error' in answer:
      raise OSError(answer['error'])
    return answer

  def stream(self, request: bytes, seconds: float) -> Iterator[dict[str, Any]]:
    """Sends a single request, and yields answers until one is `done`.

    This does not wait for the process to end afterwards; `close` kills it if
    that takes long.

    Args:
      request: written to the standard input, which is then closed.
      seconds: total time limit.

    Raises:
      OSError: an answer is an `error`, or the process ended before `done`.
      TimeoutError: the limit was exceeded.
      ValueError: an answer is not JSON.
    """
    deadline = time.monotonic() + seconds
    with contextlib.suppress(BrokenPipeError):  # it ended; its status tells
      self._input.write(request)
      self._input.close()
    while line := self._next_line(max(deadline - time.monotonic(), 0.0)):
      answer = json.loads(line)
      if 'error' in answer:
        raise OSError(answer['error'])
      if 'done' in answer:
        return
      yield answer
    try:
      status = self._process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
      self.kill()
      raise OSError('it closed its output and did not end') from None
    raise OSError(f'it ended with status {status} before it was done')

  def _next_line(self, seconds):
    try:
      line = self._lines.get(timeout=seconds)
    except queue.Empty:
      raise TimeoutError('no answer in time') from None
    if not line:
      self._lines.put(b'')  # nor is there another line
    return line

  def close(self) -> None:
    """Closes the input and waits for the end; kills the process if needed."""
    with contextlib.suppress(OSError):  # the last request did not arrive
      self._input.close()
    try:
      self._process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
      self.kill()
    self._reader.join(1.0)
    if not self._reader.is_alive():  # else a descendant has the pipe open
      self._output.close()

  def kill(self) -> None:
    """Kills the process and all that it started, and waits for it."""
    kill_tree(self._process)


def kill_tree(process: subprocess.Popen) -> None:
  """Kills a process, its process group and all its descendants.

  Descendants may have their own groups, as the compilers of `torch.compile` do;
  they are found on systems with /proc.
  """
  descendants = _descendants(process.pid)
  with contextlib.suppress(ProcessLookupError):  # all have ended
    os.killpg(process.pid, signal.SIGKILL)
  for pid in descendants:
    with contextlib.suppress(ProcessLookupError):  # it was in the group
      os.kill(pid, signal.SIGKILL)
  # A process that hangs in the driver of a device does not end, even if killed.
  with contextlib.suppress(subprocess.TimeoutExpired):
    process.wait(_SECONDS_TO_END)


def _descendants(pid):
  children: dict[int, list[int]] = {}
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      # The name, in parentheses, may have spaces.
      fields = path.read_text().rpartition(')')[2].split()
    except OSError:  # it ended
      continue
    children.setdefault(int(fields[1]), []).append(int(path.parent.name))
  found, unvisited = [], [pid]
  while unvisited:
    more = children.get(unvisited.pop(), [])
    found += more
    unvisited += more
  return found
