"""Which networks and frameworks are measured, and in which order."""

import sys
from collections.abc import Iterator

from convmixer_jax.benchmarks.device.model_groups import (
  Measurement,
  measure_group,
)
from convmixer_jax.benchmarks.device.session import Session

# NHWC, in which PyTorch is fast up to kernels of 7 x 7.
_LARGEST_IN_NHWC = 7


def list_groups(session: Session) -> Iterator[list[Measurement]]:
  """Yields groups of measurements of ConvMixers: this project first.

  The step of a loop over the blocks (scan) compiles sooner, and is slower: it
  stands for a network that was not compiled in time. The next group is chosen
  when the one before has been measured.
  """
  settings, (jax, torch) = session.settings, _workers(session)
  networks, inference = settings.networks, settings.inference
  project = [*jax, 'project']
  yield [
    Measurement(
      *('this project', name, case, project),
      profiled=name in settings.profiled and session.platform == 'gpu',
    )
    for name, case in networks.items()
  ] + [
    Measurement('this project', name, case, project, ('forward',))
    for name, case in inference.items()
  ]
  yield _by_scan(session, 'this project', [*jax, 'project_scan'])
  yield [
    _in_eager_mode(torch, name, case, _is_large(case), kinds)
    for cases, kinds in ((networks, ('train', 'forward')), (inference, None))
    for name, case in cases.items()
  ]
  yield [
    Measurement('plain Flax', name, case, [*jax, 'plain_flax'], ('train',))
    for name, case in networks.items()
  ]
  yield _by_scan(session, 'plain Flax', [*jax, 'plain_flax_scan'])
  yield [
    Measurement(
      *('PyTorch, compile', name, networks[name], [*torch, 'compile']),
      ('train',),
    )
    for name in settings.compiled
  ]


def list_other_groups(session: Session) -> Iterator[list[Measurement]]:
  """Yields groups that are measured if there is time in the end."""
  settings, (jax, torch) = session.settings, _workers(session)
  networks, inference = settings.networks, settings.inference
  yield [
    _in_eager_mode(torch, name, case, False, kinds)
    for cases, kinds in ((networks, ('train', 'forward')), (inference, None))
    for name, case in cases.items()
    if _is_large(case)
  ]
  yield [
    Measurement(
      *('PyTorch, compile', name, networks[name], [*torch, 'compile']),
      ('forward',),
    )
    for name in settings.compiled
  ]
  yield [
    Measurement('plain Flax', name, case, [*jax, 'plain_flax'], ('forward',))
    for name, case in networks.items()
  ]


def _is_large(case):
  return case.fields['kernel_size'] > _LARGEST_IN_NHWC


def _in_eager_mode(torch, name, case, nchw, kinds):
  return Measurement(
    'PyTorch, eager, NCHW' if nchw else 'PyTorch, eager',
    name,
    case,
    [*torch, 'eager_nchw' if nchw else 'eager'],
    kinds or ('forward',),
    compiles=False,
  )


def _by_scan(session, framework, command):
  """Returns measurements of the networks whose training was not measured."""
  measured = {
    row['network']
    for row in session.rows.select('models', 'seconds')
    if (row['framework'], row['kind']) == (framework, 'train')
  }
  return [
    Measurement(f'{framework}, scan', name, case, command, ('train',))
    for name, case in session.settings.networks.items()
    if name not in measured
  ]


def list_others(session: Session) -> Iterator[list[Measurement]]:
  """Yields the measurements of other networks: this project first."""
  networks = session.settings.others()
  jax, torch = _workers(session)
  for framework, command, compiles in (
    # A loop over the blocks compiles in seconds.
    ('this project, scan', [*jax, 'project_scan'], True),
    ('PyTorch, compile', [*torch, 'compile'], True),
    ('PyTorch, eager', [*torch, 'eager'], False),
  ):
    yield [
      Measurement(framework, name, case, command, compiles=compiles)
      for name, case in networks.items()
    ]


def _workers(session):
  """Returns the commands of the processes with JAX and with PyTorch."""
  package = 'convmixer_jax.benchmarks'
  return (
    [sys.executable, '-m', f'{package}.jax_model_worker'],
    [session.torch_python, '-m', f'{package}.torch_model_worker'],
  )


def measure_models(session: Session) -> None:
  """Measures each framework on each ConvMixer."""
  for group in list_groups(session):
    measure_group(session, 'models', group)


def measure_others(session: Session) -> None:
  """Measures each framework on the other networks."""
  for group in list_others(session):
    measure_group(session, 'networks', group)
