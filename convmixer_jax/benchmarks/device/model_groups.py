"""Measures networks in processes that compile at the same time.

XLA takes minutes to compile deep networks one after the other, and most of that
on one core of each process. So the processes of a group start together, all
compile, and wait; then each is timed while the others wait. Nothing else runs
while steps are timed.
"""

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from convmixer_jax.benchmarks.benchmark_cases import (
  BenchmarkCase,
  is_convmixer,
)
from convmixer_jax.benchmarks.benchmark_process import BenchmarkProcess
from convmixer_jax.benchmarks.device.model_timing import find_rates, time_steps
from convmixer_jax.benchmarks.device.session import Session

KINDS = ('train', 'forward')
PROFILE = 'profile_train'
_PROFILED_STEPS = 5
_PROFILE_SECONDS = 15.0
_SHOWN_KERNELS = 20
# Of the seconds that a group has left, for compiling; then it is timed.
_COMPILING = 0.75
# Arrays of the size of an activation that a block keeps for the backward pass,
# and what a process has besides: what its allocator does not give back. This
# project's blocks keep four.
_KEPT, _KEPT_HERE, _OTHER_BYTES = 10, 5, 3e9
_MIB = 2**20
_USABLE = 0.92  # of a GPU's memory
_BYTES = 2  # of a bfloat16


@dataclasses.dataclass(frozen=True)
class Measurement:
  """A framework and the network that it is measured on.

  Attributes:
    framework: name of the framework, such as 'PyTorch, eager'.
    network: name of the network.
    case: the network and its batch.
    command: command that starts the process.
    kinds: what is measured, of 'train' and 'forward'.
    compiles: whether its first steps compile for long; else it may choose
      among algorithms by their time, while no other process works.
    profiled: whether a training step is divided among its kernels in the end.
  """

  framework: str
  network: str
  case: BenchmarkCase
  command: list[str]
  kinds: Sequence[str] = KINDS
  compiles: bool = True
  profiled: bool = False


def estimate_bytes(measurement: Measurement) -> float:
  """Returns the memory that a process keeps while another one is timed."""
  if not measurement.compiles:  # it has done nothing yet, or was killed
    return 0.0
  case = measurement.case
  if not is_convmixer(case):
    return math.inf
  side = case.image_size // case.fields['patch_size']
  activation = case.batch_size * side**2 * case.fields['width'] * _BYTES
  depth = case.fields['depth'] if 'train' in measurement.kinds else 1
  is_ours = measurement.framework == 'this project'
  kept = _KEPT_HERE if is_ours and depth > 1 else _KEPT
  return depth * kept * activation + _OTHER_BYTES


def divide(
  group: Sequence[Measurement], capacity: float
) -> Iterator[list[Measurement]]:
  """Yields parts of a group that fit into a device's memory at once.

  Args:
    group: measurements, in their order.
    capacity: bytes.
  """
  part: list[Measurement] = []
  for measurement in group:
    if part and sum(map(estimate_bytes, [*part, measurement])) > capacity:
      yield part
      part = []
    part.append(measurement)
  if part:
    yield part


def measure_group(
  session: Session,
  stage: str,
  group: Sequence[Measurement],
  *,
  budget: str | None = None,
) -> None:
  """Adds rows for the measurements of a group, or why they are missing.

  Only processes for GPUs work together: others have one device for one process,
  or few cores.

  Args:
    session: the run.
    stage: stage of the rows.
    group: measurements of one kind of framework, in the order of their
      importance.
    budget: the stage whose time they use, if not that of the rows.
  """
  parts: Iterable[Sequence[Measurement]] = ([one] for one in group)
  if session.platform == 'gpu':
    parts = divide(group, _capacity(session))
  for part in parts:
    possible = []
    for measurement in part:
      row = {
        'network': measurement.network,
        'framework': measurement.framework,
      }
      left = session.budget.left(budget or stage)
      if measurement.framework.startswith('PyTorch') and (
        reason := session.why_no_torch()
      ):
        session.rows.add(stage, **row, missing=reason)
      elif left < session.settings.min_process_seconds:
        session.rows.add(stage, **row, missing='no time was left')
      else:
        possible.append((measurement, row))
    if possible:
      left = session.budget.left(budget or stage)
      # Both layouts of PyTorch have one limit.
      framework = part[0].framework.removesuffix(', NCHW')
      limit = session.settings.limits[framework]
      _measure(session, stage, possible, min(limit, left))


def _capacity(session):
  """Returns the bytes of a GPU, or of a process if the former are unknown."""
  sizes = session.rows.select('machine', 'gpu_memory_mib')
  if sizes and sizes[0]['gpu_memory_mib'].isdecimal():
    return _USABLE * _MIB * int(sizes[0]['gpu_memory_mib'])
  limits = session.rows.select('machine', 'memory_limit')
  return (limits[-1]['memory_limit'] if limits else None) or 0.0


class _Run:
  """A process, and the rows of its measurement."""

  def __init__(self, session, stage, measurement, row, process, seconds):
    self.measurement, self.process = measurement, process
    self._session, self._stage, self._row = session, stage, row
    self._seconds = seconds
    self._costs: dict[str, dict[str, float]] = {}
    self.ended = False

  def add(self, **values: Any) -> None:
    """Adds a row."""
    self._session.rows.add(self._stage, **self._row, **values)

  def is_ready(self) -> bool:
    """Returns whether the process has started; else a row says why not."""
    if self.process.missing:
      key = 'missing' if self.process.killed else 'failed'
      self._end(**{key: self.process.missing})
    return not self.ended

  def prepare(self, kind: str, seconds: float | None) -> None:
    """Compiles a kind of step, in at most so many seconds."""
    if self.ended or kind not in self.measurement.kinds:
      return
    self._try(
      kind, lambda: self._costs.update({kind: self._prepare(kind, seconds)})
    )

  def _prepare(self, kind, seconds):
    return self.process.prepare(kind, seconds)

  def time(self, kind: str) -> None:
    """Times a kind of step that was prepared."""
    if not self.ended and kind in self._costs:
      self._try(kind, lambda: self._time(kind))

  def _time(self, kind):
    settings, case = self._session.settings, self.measurement.case
    figures = time_steps(self.process, kind, self._costs[kind], settings)
    rates = find_rates(self._session, case, kind, figures['seconds'])
    self.add(kind=kind, **figures, **rates)

  def profile(self) -> None:
    """Divides a training step among its kernels."""
    if self.ended or not self.measurement.profiled:
      return
    if self.process.seconds_left > _PROFILE_SECONDS:
      self._try(PROFILE, self._profile)

  def _profile(self):
    found = self.process.measure(PROFILE, _PROFILED_STEPS)['profile']
    self.add(
      kind=PROFILE,
      kernels=found[:_SHOWN_KERNELS],
      kernels_seconds=sum(time for *_, time in found) / 1e6,
    )

  def _try(self, kind, function):
    try:
      function()
    except TimeoutError:
      reason = f'killed after {self._seconds:.0f} s, in or before {kind}'
      self._end(kind=kind, missing=reason)
    except ValueError as error:  # it died
      self._end(kind=kind, failed=str(error))
    except OSError as error:
      self.add(kind=kind, failed=str(error))

  def _end(self, **values):
    self.ended = True
    self.add(**values)

  def finish(self) -> None:
    """Adds what the process says about itself, and kills it."""
    if not self.ended:
      self.add(about=self.process.about)
    self.process.kill()  # a normal exit takes seconds


def _measure(session, stage, possible, seconds):
  """Starts processes together, and measures one after the other."""
  end = time.monotonic() + seconds
  environment = session.environment()
  if len(possible) > 1:
    environment['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'
  # The processes are killed before the threads that wait for them are joined.
  with ThreadPoolExecutor(len(possible)) as threads, ExitStack() as stack:
    runs = []
    for measurement, row in possible:
      process = BenchmarkProcess(
        *(measurement.command, measurement.case),
        kinds=(),
        seconds=seconds,
        environment=environment,
        log=session.log,
        wait=False,
      )
      stack.enter_context(process)
      runs.append(_Run(session, stage, measurement, row, process, seconds))
    list(threads.map(lambda run: run.process.wait_until_ready(), runs))
    runs = [run for run in runs if run.is_ready()]
    if all(run.measurement.compiles for run in runs):
      for kind in KINDS:
        limit = _COMPILING * (end - time.monotonic())
        list(threads.map(lambda run, k=kind, s=limit: run.prepare(k, s), runs))
        for run in runs:
          run.time(kind)
      for run in runs:
        run.profile()
    for run in runs:
      if not run.measurement.compiles:
        for kind in KINDS:
          run.prepare(kind, None)
          run.time(kind)
      run.finish()
