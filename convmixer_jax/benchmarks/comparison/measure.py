"""Measures memory and speed of a network in a process of its own."""

import statistics
import sys
from collections.abc import Iterator
from typing import Any

from convmixer_jax.benchmarks.benchmark_cases import BenchmarkCase
from convmixer_jax.benchmarks.benchmark_process import BenchmarkProcess
from convmixer_jax.benchmarks.error_line import describe
from convmixer_jax.benchmarks.worker_process import WorkerProcess

_WORKER = 'convmixer_jax.benchmarks.jax_model_worker'
_PROBE = 'convmixer_jax.benchmarks.device.ceilings'
_PROBE_SECONDS = 300.0
# Of one network; a process that takes longer hangs.
_LIMIT_SECONDS = 3600.0
_TIMINGS = 3
_TIMING_SECONDS = 1.5  # approximate duration of one
_MAX_STEPS = 50  # of one


def find_device() -> dict[str, str]:
  """Returns `platform` and `device` that JAX finds.

  Another process asks, so that this one does not reserve the device's memory.

  Raises:
    OSError: JAX does not start.
  """
  with WorkerProcess([sys.executable, '-m', _PROBE]) as process:
    for row in process.stream(b'null\n', _PROBE_SECONDS):
      return {'platform': row['platform'], 'device': row['device']}
  raise OSError('JAX found no device')


def measure(
  case: BenchmarkCase, kinds: list[str], *, scan: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Measures steps of a network.

  Args:
    case: the network and its batch.
    kinds: of steps, 'forward' and 'train'.
    scan: whether its blocks are a loop, which compiles faster.

  Yields:
    After each kind, its name and `images_per_sec`, `memory_mib` (what the
    compiled step needs, by its compiler; missing where that is not said) and
    `compile_seconds`; or why it `failed`.
  """
  command = [sys.executable, '-m', _WORKER]
  command.append('project_scan' if scan else 'project')
  with BenchmarkProcess(command, case, (), seconds=_LIMIT_SECONDS) as process:
    for kind in kinds:
      if process.missing:
        yield kind, {'failed': process.missing}
        continue
      try:
        yield kind, _measure_kind(process, kind, case.batch_size)
      except (OSError, ValueError) as error:  # also what took too long
        yield kind, {'failed': describe(error)}
    if process.missing is None:
      process.kill()  # a normal exit takes seconds


def _measure_kind(process, kind, batch_size):
  costs = process.prepare(kind)
  steps = round(_TIMING_SECONDS / max(costs['step'], 1e-6))
  steps = min(max(steps, 1), _MAX_STEPS)
  walls = [process.measure(kind, steps)['wall'] for _ in range(_TIMINGS)]
  found = {
    'images_per_sec': batch_size / statistics.median(walls),
    'compile_seconds': costs['compile'],
  }
  if 'program_memory' in costs:
    found['memory_mib'] = costs['program_memory']
  return found
