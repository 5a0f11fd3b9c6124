"""A process of its own for each of those that `benchmarks.model` compares."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from convmixer_jax.benchmarks.model_shapes import Shape
from convmixer_jax.benchmarks.worker_process import WorkerProcess


class Contender:
  """A process that holds one network and does steps of it on request.

  Use it in a `with`. It starts and compiles on construction, so that this is
  timed while the others rest.

  Attributes:
    missing: why it cannot run, or None.
    about: versions, and what else it tells of itself.
    costs: for each kind of step, seconds to `compile` it and of a `step`, and
      the `peak` of memory in MiB.
  """

  def __init__(self, command: Sequence[str], shape: Shape):
    self.missing: str | None = None
    self.about: dict[str, Any] = {}
    self.costs: dict[str, dict[str, float]] = {}
    self._process = None
    try:
      self._process = WorkerProcess(command)
      answer = self._ask(json.dumps(dataclasses.asdict(shape)))
      self.about, self.costs = answer['about'], answer['costs']
    except (OSError, ValueError) as error:  # ValueError: it died, no JSON
      self.missing = f'{command[0]} cannot run it ({error})'

  def __enter__(self):
    return self

  def __exit__(self, *_):
    if self._process:
      self._process.close()

  def measure(self, kind: str, count: int) -> dict[str, float]:
    """Does `count` steps.

    Returns:
      `wall` and `cpu`, in seconds for one step.

    Raises:
      ValueError: the process died.
    """
    seconds = self._ask(f'{kind} {count}')
    return {clock: value / count for clock, value in seconds.items()}

  def _ask(self, line):
    return self._process.ask(f'{line}\n'.encode())
