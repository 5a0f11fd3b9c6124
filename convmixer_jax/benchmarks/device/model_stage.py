"""The stage that measures training steps and inference of whole networks."""

import dataclasses
import math
import statistics
import sys
from collections.abc import Iterator

from convmixer_jax.benchmarks.contender import Contender
from convmixer_jax.benchmarks.device.roofline import step_seconds
from convmixer_jax.benchmarks.device.session import Session
from convmixer_jax.benchmarks.model_shapes import Shape

_KINDS = ('train', 'forward')
_TIMINGS = 3
_WARM_UP = 3  # besides the first two, which compile
# Of the seconds that a process has left, what goes into steps of this kind.
_SHARES = {'train': 0.6, 'forward': 0.8}
_SECONDS_FOR_THE_END = 1.0


@dataclasses.dataclass(frozen=True)
class Entry:
  """A contender on a network.

  Attributes:
    contender: its name.
    network: its name.
    shape: the network and its batch.
    command: starts the process.
  """

  contender: str
  network: str
  shape: Shape
  command: list[str]


def entries(session: Session) -> Iterator[Entry]:
  """Yields what is measured, in its order: this project first."""
  networks = session.settings.networks
  jax = [sys.executable, '-m', 'convmixer_jax.benchmarks.jax_model_worker']
  torch = [
    *(session.torch_python, '-m'),
    'convmixer_jax.benchmarks.torch_model_worker',
  ]
  large_kernels = [
    name for name, shape in networks.items() if shape.kernel_size > 7
  ]
  small_kernels = [name for name in networks if name not in large_kernels]
  for contender, command, names in (
    # Unrolled, large kernels may take minutes to compile: see
    # `kernels/xla/shift_gpu.py`.
    ('this project, scan', [*jax, 'project_scan'], large_kernels),
    ('this project', [*jax, 'project'], small_kernels),
    ('plain Flax', [*jax, 'plain_flax'], networks),
    ('PyTorch, eager', [*torch, 'eager'], networks),
    # NHWC is fast up to kernels of 7 x 7.
    ('PyTorch, eager, NCHW', [*torch, 'eager_nchw'], large_kernels),
    ('PyTorch, compile', [*torch, 'compile'], session.settings.compiled),
    ('this project', [*jax, 'project'], large_kernels),
  ):
    for name in names:
      yield Entry(contender, name, networks[name], command)


def measure_models(session: Session) -> None:
  """Measures every contender on every network, one after the other."""
  for entry in entries(session):
    left = session.budget.left('models')
    row = {'network': entry.network, 'contender': entry.contender}
    if entry.contender.startswith('PyTorch') and session.torch_missing:
      session.rows.add('models', **row, missing=session.torch_missing)
      continue
    if left < session.settings.least_contender_seconds:
      session.rows.add('models', **row, missing='no time was left')
      continue
    seconds = min(session.settings.limits[entry.contender], left)
    _measure(session, entry, row, seconds)


def _measure(session, entry, row, seconds):
  with Contender(
    entry.command,
    entry.shape,
    kinds=(),
    seconds=seconds,
    environment=session.environment(),
    log=session.log,
  ) as contender:
    if contender.missing:
      key = 'missing' if contender.killed else 'failed'
      session.rows.add('models', **row, **{key: contender.missing})
      return
    for kind in _KINDS:
      try:
        figures = _measure_kind(contender, kind, session.settings.steps)
      except TimeoutError:
        reason = f'killed after {seconds:.0f} s, in or before {kind}'
        session.rows.add('models', **row, kind=kind, missing=reason)
        return
      except ValueError as error:  # it died
        session.rows.add('models', **row, kind=kind, failed=str(error))
        return
      except OSError as error:
        session.rows.add('models', **row, kind=kind, failed=str(error))
        continue
      figures |= _rates(session, entry, kind, figures['seconds'])
      session.rows.add('models', **row, kind=kind, **figures)
    session.rows.add('models', **row, about=contender.about)
    contender.kill()  # ending takes seconds


def plan_steps(
  step_seconds: float, seconds: float, steps: int
) -> tuple[int, int, int]:
  """Returns the steps that warm up, the timings, and the steps of a timing.

  Args:
    step_seconds: of one step.
    seconds: that there are for all of them.
    steps: that a timing has if there is time for three.
  """
  affordable = int(seconds / step_seconds)
  if affordable >= _WARM_UP + _TIMINGS * steps:
    return _WARM_UP, _TIMINGS, steps
  if affordable >= 2 * _TIMINGS:
    return 1, _TIMINGS, (affordable - 1) // _TIMINGS
  return 0, max(min(affordable, _TIMINGS), 0), 1


def _measure_kind(contender, kind, steps):
  """Compiles, warms up and times; cuts the steps down to the time there is."""
  costs = contender.prepare(kind)
  seconds = (contender.seconds_left - _SECONDS_FOR_THE_END) * _SHARES[kind]
  warm_up, timings, count = plan_steps(costs['step'], seconds, steps)
  if warm_up:
    contender.measure(kind, warm_up)
  last, taken = costs, []
  for _ in range(timings):
    last = contender.measure(kind, count)
    taken.append(last['wall'])
  figures = {
    # With time for none, the step that followed the compilation has to do.
    'seconds': statistics.median(taken or [costs['step']]),
    'steps': f'{timings} x {count}' if timings else '1',
    'compile_seconds': costs['compile'],
  }
  if taken:
    figures |= {'fastest': min(taken), 'slowest': max(taken)}
  if 'loss' in last:
    finite = math.isfinite(last['loss'])
    # NaN is not JSON.
    figures |= {'loss': last['loss'] if finite else None, 'finite': finite}
  if 'device_peak' in last:
    figures['device_peak_mib'] = last['device_peak']
  return figures


def _rates(session, entry, kind, seconds):
  rates = {'images_per_sec': entry.shape.batch_size / seconds}
  copies = session.rows.of('machine', 'gb_per_sec')
  products = session.rows.of('machine', 'tflops')
  if copies and products:
    bound = step_seconds(
      entry.shape,
      kind,
      1e9 * copies[-1]['gb_per_sec'],
      1e12 * products[-1]['tflops'],
    )
    rates['share_of_roofline'] = bound / seconds
  return rates
