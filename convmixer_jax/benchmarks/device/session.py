"""A run of the benchmark: its state, and how it starts programs."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from convmixer_jax.benchmarks.device.budget import Budget
from convmixer_jax.benchmarks.device.rows import Rows
from convmixer_jax.benchmarks.device.settings import Settings
from convmixer_jax.benchmarks.worker_process import WorkerProcess, kill_tree

ROOT = pathlib.Path(__file__).parents[3]  # directory of the package


@dataclasses.dataclass
class Session:
  """The state that all stages share.

  Attributes:
    settings: sizes, counts and limits.
    rows: the results so far.
    budget: the time that is left.
    directory: directory for the results.
    scratch: a directory that is deleted at the end.
    log: file for the output of programs, except their rows.
    torch_python: a Python interpreter that has PyTorch and timm.
    cifar10: a tar of CIFAR-10's images, or None.
    data_dir: a directory of TFDS with a prepared CIFAR-10, or None.
    platform: platform of the device, 'gpu', 'tpu' or 'cpu'; '' until known.
    torch_missing: why PyTorch is not measured, or None; to be asked by
      `why_no_torch`.
  """

  settings: Settings
  rows: Rows
  budget: Budget
  directory: pathlib.Path
  scratch: pathlib.Path
  log: IO[bytes]
  torch_python: str
  cifar10: str | None
  data_dir: str | None
  platform: str = ''
  torch_missing: str | None = None
  _torch_search: threading.Thread | None = None
  _threads: list[threading.Thread] = dataclasses.field(default_factory=list)
  _running: set[subprocess.Popen] = dataclasses.field(default_factory=set)
  _starting: threading.Lock = dataclasses.field(default_factory=threading.Lock)
  _is_closed: bool = False

  def start(self, function: Callable[[], None]) -> threading.Thread:
    """Runs a function in a thread, until `close` at the latest."""
    thread = threading.Thread(target=function, daemon=True)
    self._threads.append(thread)
    thread.start()
    return thread

  def search_torch(self, find: Callable[['Session'], None]) -> None:
    """Finds PyTorch in a thread, which reads gigabytes from a slow disk."""
    self._torch_search = self.start(lambda: find(self))

  def why_no_torch(self) -> str | None:
    """Returns why PyTorch is not measured, or None, when that is known."""
    if self._torch_search is not None:
      self._torch_search.join()
    return self.torch_missing

  def close(self) -> None:
    """Kills the programs that threads wait for, and ends the threads."""
    with self._starting:  # a thread may be about to start one
      self._is_closed = True
      running = list(self._running)
    for process in running:
      kill_tree(process)
    for thread in self._threads:
      thread.join()

  def environment(self, **variables: str) -> dict[str, str]:
    """Returns environment variables with which programs import this project."""
    path = [str(ROOT), os.environ.get('PYTHONPATH', '')]
    values = {
      'PYTHONPATH': os.pathsep.join(filter(None, path)),
      'TMPDIR': str(self.scratch),
      # The time of compilation is measured.
      'JAX_ENABLE_COMPILATION_CACHE': 'false',
    }
    if self.platform == 'cpu':  # PyTorch must use the CPU too
      values['CUDA_VISIBLE_DEVICES'] = ''
    return values | variables

  def python(self, *arguments: str) -> list[str]:
    """Returns a command of this Python interpreter."""
    return [sys.executable, *arguments]

  def jax_command(self, program: str) -> list[str]:
    """Returns the command of a program of this package, such as 'ceilings'."""
    return self.python('-m', f'{__package__}.{program}')

  def torch_command(self, program: str) -> list[str]:
    """Returns the command of a program of this package for `torch_python`."""
    return [self.torch_python, '-m', f'{__package__}.{program}']

  def stream(
    self,
    command: Sequence[str],
    request: Any,
    seconds: float,
    receive: Callable[[dict[str, Any]], None],
    environment: Mapping[str, str] | None = None,
  ) -> None:
    """Runs a program that answers a request with rows.

    Args:
      command: program and arguments.
      request: request, for JSON.
      seconds: time after which the program is killed.
      receive: called with each row immediately.
      environment: variables to add to those of this process.

    Raises:
      OSError: the program failed.
      TimeoutError: the program was killed.
      ValueError: an answer was not JSON.
    """
    environment = environment or self.environment()
    with WorkerProcess(
      command, environment=environment, log=self.log
    ) as process:
      line = json.dumps(request).encode() + b'\n'
      try:
        for row in process.stream(line, seconds):
          receive(row)
      except TimeoutError as error:
        raise TimeoutError(f'killed after {seconds:.0f} s') from error

  def run(
    self,
    command: Sequence[str],
    seconds: float,
    environment: Mapping[str, str] | None = None,
  ) -> 'Output':
    """Runs a program, and copies its output to the log.

    After `close` nothing is started, as if the program was killed at once.

    Args:
      command: program and arguments.
      seconds: time after which the program is killed.
      environment: variables to add to those of this process.

    Raises:
      OSError: the program cannot be started.
    """
    output, start = Output(), time.monotonic()
    with self._starting:
      if self._is_closed:
        return output
      process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | dict(environment or self.environment()),
        cwd=ROOT,
        start_new_session=True,
      )
      self._running.add(process)

    def read():
      for line in process.stdout:
        output.lines.append(
          (time.monotonic() - start, line.decode(errors='replace').rstrip())
        )
        self.log.write(line)
        self.log.flush()

    reader = threading.Thread(target=read, daemon=True)
    try:
      reader.start()
      output.status = process.wait(seconds)
    except BaseException as error:
      kill_tree(process)
      if not isinstance(error, subprocess.TimeoutExpired):
        raise
    finally:
      self._running.discard(process)
    reader.join(1.0)
    if process.stdout and not reader.is_alive():  # else a descendant has it
      process.stdout.close()
    output.seconds = time.monotonic() - start
    return output


@dataclasses.dataclass
class Output:
  """The result of a program.

  Attributes:
    status: exit status; None if the program was killed.
    seconds: time that it took.
    lines: lines of its output, each with the seconds since the start.
  """

  status: int | None = None
  seconds: float = 0.0
  lines: list[tuple[float, str]] = dataclasses.field(default_factory=list)

  @property
  def last_line(self) -> str:
    """The last line that is not blank, or ''."""
    texts = [text for _, text in self.lines if text.strip()]
    return texts[-1].strip() if texts else ''

  @property
  def outcome(self) -> str:
    """How the program ended, in words."""
    if self.status is None:
      return f'killed after {self.seconds:.0f} s'
    return f'ended with status {self.status}'
