"""A process of its own for each of those that are compared."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

from convmixer_jax.benchmarks.model_shapes import Shape
from convmixer_jax.benchmarks.worker_process import WorkerProcess


class Contender:
  """A process that holds one network and does steps of it on request.

  Use it in a `with`. It starts on construction, and compiles the kinds of steps
  that are asked for then, so that this is timed while the others rest.

  Attributes:
    missing: why it cannot run, or None.
    killed: whether that is because it took too long.
    about: versions, and what else it reports of itself.
    costs: for each kind of step that was prepared, seconds to `compile` it and
      of a `step`, and the `peak` of the process's memory in MiB.
  """

  def __init__(
    self,
    command: Sequence[str],
    shape: Shape,
    kinds: Sequence[str] = ('matmul', 'forward', 'train'),
    *,
    seconds: float | None = None,
    environment: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
  ):
    """Starts the process.

    Args:
      command: program and arguments.
      shape: the network and its batch.
      kinds: of steps to prepare.
      seconds: after which it is killed, whatever it does; None: never.
      environment: variables to set besides those of this process.
      log: where its standard error goes; None: to this process's.
    """
    self.missing: str | None = None
    self.killed = False
    self.about: dict[str, Any] = {}
    self.costs: dict[str, dict[str, float]] = {}
    self._process = None
    self._deadline = None if seconds is None else time.monotonic() + seconds
    try:
      self._process = WorkerProcess(command, environment=environment, log=log)
      self.about = self._ask(json.dumps(dataclasses.asdict(shape)))['about']
      for kind in kinds:
        self.prepare(kind)
    except TimeoutError:
      self.missing = f'killed after {seconds:.0f} s, while it started'
      self.killed = True
    except (OSError, ValueError) as error:
      self.missing = f'{command[0]} cannot run it ({error})'
    except BaseException:
      if self._process:  # nobody will enter the `with`
        self._process.kill()
        self._process.close()
      raise

  def __enter__(self):
    return self

  def __exit__(self, *error):
    if self._process:
      self._process.__exit__(*error)

  def kill(self) -> None:
    """Kills the process, which has nothing more to do."""
    self._process.kill()

  @property
  def seconds_left(self) -> float:
    """Seconds until it is killed."""
    if self._deadline is None:
      return float('inf')
    return max(self._deadline - time.monotonic(), 0.0)

  def prepare(self, kind: str) -> dict[str, float]:
    """Compiles a kind of step.

    Returns:
      Its `costs`.

    Raises:
      OSError: it cannot be done.
      TimeoutError: it took too long, and the process was killed.
      ValueError: the process died.
    """
    self.costs[kind] = self._ask(f'first {kind}')
    return self.costs[kind]

  def measure(self, kind: str, count: int) -> dict[str, float]:
    """Does `count` steps.

    Returns:
      `wall` and `cpu`, in seconds for one step; and what else the process
      reports of them, such as `loss` and `device_peak` in MiB.

    Raises:
      OSError: it cannot be done.
      TimeoutError: it took too long, and the process was killed.
      ValueError: the process died.
    """
    values = self._ask(f'{kind} {count}')
    per_step = {clock: values[clock] / count for clock in ('wall', 'cpu')}
    return values | per_step

  def _ask(self, line):
    seconds = None if self._deadline is None else self.seconds_left
    try:
      return self._process.ask(f'{line}\n'.encode(), seconds)
    except TimeoutError:
      self._process.kill()
      raise
