"""The stages that measure training and inference of complete networks."""

import dataclasses
import math
import statistics
import sys
from collections.abc import Iterator, Sequence

from convmixer_jax.benchmarks.benchmark_cases import (
  BenchmarkCase,
  is_convmixer,
)
from convmixer_jax.benchmarks.benchmark_process import BenchmarkProcess
from convmixer_jax.benchmarks.device.roofline import step_seconds
from convmixer_jax.benchmarks.device.session import Session

_KINDS = ('train', 'forward')
_TIMINGS = 3
_WARM_UP = 3  # after the first two, which compile
# Share of the remaining seconds of a process for the steps of a kind.
_SHARES = {'train': 0.6, 'forward': 0.8}
_SECONDS_FOR_THE_END = 1.0


@dataclasses.dataclass(frozen=True)
class Measurement:
  """A framework and the network that it is measured on.

  Attributes:
    framework: name of the framework, such as 'PyTorch, eager'.
    network: name of the network.
    case: the network and its batch.
    command: command that starts the process.
    kinds: what is measured, of 'train' and 'forward'.
  """

  framework: str
  network: str
  case: BenchmarkCase
  command: list[str]
  kinds: Sequence[str] = _KINDS


def list_measurements(session: Session) -> Iterator[Measurement]:
  """Yields the measurements of ConvMixers: this project first."""
  networks = session.settings.networks
  jax, torch = _workers(session)
  large_kernels = [
    name for name, case in networks.items() if case.fields['kernel_size'] > 7
  ]
  for framework, command, names in (
    ('this project', [*jax, 'project'], networks),
    ('plain Flax', [*jax, 'plain_flax'], networks),
    ('PyTorch, eager', [*torch, 'eager'], networks),
    # NHWC is fast up to kernels of 7 x 7.
    ('PyTorch, eager, NCHW', [*torch, 'eager_nchw'], large_kernels),
    ('PyTorch, compile', [*torch, 'compile'], session.settings.compiled),
    # Where the kernels for GPUs cannot be used, large ones may take minutes to
    # compile without scan: see `kernels/xla/shift_gpu.py`.
    ('this project, scan', [*jax, 'project_scan'], large_kernels),
  ):
    for name in names:
      yield Measurement(framework, name, networks[name], command)
  for name, case in session.settings.inference.items():
    for framework, command in (
      ('this project', [*jax, 'project']),
      ('PyTorch, eager, NCHW', [*torch, 'eager_nchw']),
      ('PyTorch, eager', [*torch, 'eager']),
    ):
      yield Measurement(framework, name, case, command, ('forward',))


def list_others(session: Session) -> Iterator[Measurement]:
  """Yields the measurements of other networks: this project first."""
  networks = session.settings.others()
  jax, torch = _workers(session)
  for framework, command in (
    # A loop over the blocks compiles in seconds.
    ('this project, scan', [*jax, 'project_scan']),
    ('PyTorch, compile', [*torch, 'compile']),
    ('PyTorch, eager', [*torch, 'eager']),
  ):
    for name, case in networks.items():
      yield Measurement(framework, name, case, command)


def _workers(session):
  """Returns the commands of the processes with JAX and with PyTorch."""
  package = 'convmixer_jax.benchmarks'
  return (
    [sys.executable, '-m', f'{package}.jax_model_worker'],
    [session.torch_python, '-m', f'{package}.torch_model_worker'],
  )


def measure_models(session: Session) -> None:
  """Measures each framework on each ConvMixer, one after the other."""
  _measure_all(session, 'models', list_measurements(session))


def measure_others(session: Session) -> None:
  """Measures each framework on the other networks, one after the other."""
  _measure_all(session, 'networks', list_others(session))


def _measure_all(session, stage, measurements):
  for measurement in measurements:
    framework = measurement.framework
    left = session.budget.left(stage)
    row = {'network': measurement.network, 'framework': framework}
    if framework.startswith('PyTorch') and session.torch_missing:
      session.rows.add(stage, **row, missing=session.torch_missing)
      continue
    if left < session.settings.min_process_seconds:
      session.rows.add(stage, **row, missing='no time was left')
      continue
    seconds = min(session.settings.limits[framework], left)
    _measure(session, stage, measurement, row, seconds)


def _measure(session, stage, measurement, row, seconds):
  with BenchmarkProcess(
    measurement.command,
    measurement.case,
    kinds=(),
    seconds=seconds,
    environment=session.environment(),
    log=session.log,
  ) as process:
    if process.missing:
      key = 'missing' if process.killed else 'failed'
      session.rows.add(stage, **row, **{key: process.missing})
      return
    for kind in measurement.kinds:
      try:
        figures = _measure_kind(process, kind, session.settings.steps)
      except TimeoutError:
        reason = f'killed after {seconds:.0f} s, in or before {kind}'
        session.rows.add(stage, **row, kind=kind, missing=reason)
        return
      except ValueError as error:  # it died
        session.rows.add(stage, **row, kind=kind, failed=str(error))
        return
      except OSError as error:
        session.rows.add(stage, **row, kind=kind, failed=str(error))
        continue
      figures |= _rates(session, measurement.case, kind, figures['seconds'])
      session.rows.add(stage, **row, kind=kind, **figures)
    session.rows.add(stage, **row, about=process.about)
    process.kill()  # a normal exit takes seconds


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


def _measure_kind(process, kind, steps):
  """Compiles, warms up and times as many steps as the remaining time allows."""
  costs = process.prepare(kind)
  seconds = (process.seconds_left - _SECONDS_FOR_THE_END) * _SHARES[kind]
  warm_up, timings, count = plan_steps(costs['step'], seconds, steps)
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


def _rates(session, case, kind, seconds):
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
