"""Times the steps of a network in its process."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

from convmixer_jax.benchmarks.benchmark_cases import (
  BenchmarkCase,
  is_convmixer,
)
from convmixer_jax.benchmarks.benchmark_process import BenchmarkProcess
from convmixer_jax.benchmarks.device.roofline import step_seconds
from convmixer_jax.benchmarks.device.session import Session
from convmixer_jax.benchmarks.device.settings import Settings

_TIMINGS = 3
_WARM_UP = 3  # after the first two, which compile
# Of the remaining seconds of a process, for the steps of a kind.
_SHARES = {'train': 0.6, 'forward': 0.8}
_SECONDS_FOR_THE_END = 1.0


def plan_steps(
  step_seconds: float, seconds: float, steps: int
) -> tuple[int, int, int]:
  """Returns the number of warm-up steps, of timings and of steps per timing.

  Args:
    step_seconds: duration of one step.
    seconds: time for all steps.
    steps: steps per timing if there is enough time for three timings.
  """
  affordable = int(seconds / step_seconds)
  if affordable >= _WARM_UP + _TIMINGS * steps:
    return _WARM_UP, _TIMINGS, steps
  if affordable >= 2 * _TIMINGS:
    return 1, _TIMINGS, (affordable - 1) // _TIMINGS
  return 0, max(min(affordable, _TIMINGS), 0), 1


def time_steps(
  process: BenchmarkProcess,
  kind: str,
  costs: Mapping[str, float],
  settings: Settings,
) -> dict[str, Any]:
  """Warms up and times as many steps as the time allows.

  Args:
    process: has compiled this kind of step.
    kind: 'train' or 'forward'.
    costs: what that cost.
    settings: has the number of steps, and the time for them.

  Returns:
    The `seconds` of a step, how often it was timed, and what it reports.

  Raises:
    OSError: a step raised an error.
    TimeoutError: the process was killed.
    ValueError: it died.
  """
  left = (process.seconds_left - _SECONDS_FOR_THE_END) * _SHARES[kind]
  seconds = min(settings.timing_seconds, left)
  warm_up, timings, count = plan_steps(costs['step'], seconds, settings.steps)
  if warm_up:
    process.measure(kind, warm_up)
  last, times = costs, []
  for _ in range(timings):
    last = process.measure(kind, count)
    times.append(last['wall'])
  figures = {
    # Without time for a timing, use the step after the compilation.
    'seconds': statistics.median(times or [costs['step']]),
    'steps': f'{timings} x {count}' if timings else '1',
    'compile_seconds': costs['compile'],
  }
  if times:
    figures |= {'fastest': min(times), 'slowest': max(times)}
  if 'loss' in last:
    finite = math.isfinite(last['loss'])
    # JSON has no NaN.
    figures |= {'loss': last['loss'] if finite else None, 'finite': finite}
  if 'device_peak' in last:
    figures['device_peak_mib'] = last['device_peak']
  return figures


def find_rates(
  session: Session, case: BenchmarkCase, kind: str, seconds: float
) -> dict[str, float]:
  """Returns `images_per_sec`, and of a ConvMixer the `share_of_roofline`."""
  rates = {'images_per_sec': case.batch_size / seconds}
  copies = session.rows.select('machine', 'gb_per_sec')
  products = session.rows.select('machine', 'tflops')
  if copies and products and is_convmixer(case):
    bound = step_seconds(
      case,
      kind,
      1e9 * copies[-1]['gb_per_sec'],
      1e12 * products[-1]['tflops'],
    )
    rates['share_of_roofline'] = bound / seconds
  return rates
