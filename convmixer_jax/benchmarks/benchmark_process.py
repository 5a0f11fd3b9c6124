"""Runs a network of one framework in its own process."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

from convmixer_jax.benchmarks.benchmark_cases import BenchmarkCase
from convmixer_jax.benchmarks.timm_network import find_in_timm
from convmixer_jax.benchmarks.worker_process import WorkerProcess


class BenchmarkProcess:
  """A process that has one network and runs steps of it on request.

  Use it in a `with`. The constructor starts the process and compiles the given
  kinds of steps, so that compilation is timed while no other process works.

  Attributes:
    missing: why it cannot run, or None.
    killed: whether it was killed because it took too long.
    about: versions and other properties that the process reports.
    costs: for each compiled kind of step, the seconds to `compile` it and of
      one `step`, and the `peak` memory of the process in MiB.
  """

  def __init__(
    self,
    command: Sequence[str],
    case: BenchmarkCase,
    kinds: Sequence[str] = ('matmul', 'forward', 'train'),
    *,
    seconds: float | None = None,
    environment: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
    wait: bool = True,
  ):
    """Starts the process.

    Args:
      command: program and arguments.
      case: the network and its batch.
      kinds: kinds of steps to compile.
      seconds: time after which the process is killed; None: never.
      environment: variables to add to those of this process.
      log: file for its standard error; None: that of this process.
      wait: whether to wait until it is ready; else `wait_until_ready` does,
        before anything else is asked. Several processes can then start at the
        same time.
    """
    self.missing: str | None = None
    self.killed = False
    self.about: dict[str, Any] = {}
    self.costs: dict[str, dict[str, float]] = {}
    self._process = None
    self._deadline = None if seconds is None else time.monotonic() + seconds
    self._seconds, self._case, self._kinds = seconds, case, kinds
    self._program = command[0]
    try:
      self._process = WorkerProcess(command, environment=environment, log=log)
    except OSError as error:
      self.missing = f'{command[0]} cannot run it ({error})'
      return
    if wait:
      try:
        self.wait_until_ready()
      except BaseException:  # the `with` will not be entered
        self._process.kill()
        self._process.close()
        raise

  def wait_until_ready(self) -> None:
    """Waits until the process has its network, and compiles the `kinds`."""
    if self.missing:
      return
    case = self._case
    try:
      request = dataclasses.asdict(case) | {'timm': find_in_timm(case)}
      self.about = self._ask(json.dumps(request))['about']
      for kind in self._kinds:
        self.prepare(kind)
    except TimeoutError:
      self.missing = f'killed after {self._seconds:.0f} s, while starting'
      self.killed = True
    except (OSError, ValueError) as error:
      self.missing = f'{self._program} cannot run it ({error})'

  def __enter__(self):
    return self

  def __exit__(self, *error):
    if self._process:
      self._process.__exit__(*error)

  def kill(self) -> None:
    """Kills the process, if it has started."""
    if self._process:
      self._process.kill()

  @property
  def seconds_left(self) -> float:
    """Seconds until the process is killed."""
    if self._deadline is None:
      return float('inf')
    return max(self._deadline - time.monotonic(), 0.0)

  def prepare(
    self, kind: str, seconds: float | None = None
  ) -> dict[str, float]:
    """Compiles a kind of step.

    Args:
      kind: of step.
      seconds: time for it; None: until the process is killed.

    Returns:
      Its `costs`.

    Raises:
      OSError: the step raised an error.
      TimeoutError: it took too long, and the process was killed.
      ValueError: the process died.
    """
    self.costs[kind] = self._ask(f'first {kind}', seconds)
    return self.costs[kind]

  def measure(self, kind: str, count: int) -> dict[str, float]:
    """Runs `count` steps.

    Returns:
      `wall` and `cpu`, in seconds for one step; and other values that the
      process reports, such as `loss` and `device_peak` in MiB.

    Raises:
      OSError: a step raised an error.
      TimeoutError: it took too long, and the process was killed.
      ValueError: the process died.
    """
    values = self._ask(f'{kind} {count}')
    per_step = {clock: values[clock] / count for clock in ('wall', 'cpu')}
    return values | per_step

  def _ask(self, line, seconds=None):
    if self._deadline is not None:
      left = self.seconds_left
      seconds = left if seconds is None else min(seconds, left)
    try:
      return self._process.ask(f'{line}\n'.encode(), seconds)
    except TimeoutError:
      self._process.kill()
      raise
