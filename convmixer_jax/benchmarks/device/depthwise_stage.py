"""The stage that times depthwise convolutions."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

from convmixer_jax.benchmarks.device import depthwise_cases
from convmixer_jax.benchmarks.device.cases import Case, run_cases
from convmixer_jax.benchmarks.device.operations import (
  custom_kernels,
  implementations,
)
from convmixer_jax.benchmarks.device.session import Session
from convmixer_jax.benchmarks.device.settings import DepthwiseShape

_STAGE = 'depthwise'
_FORCE_NCHW = '--xla_gpu_force_conv_nchw=true'
_TORCH, _JAX = 'depthwise_torch', 'depthwise_jax'  # programs


def time_depthwise(session: Session) -> None:
  """Times this project's convolutions, then PyTorch's on some of the shapes.

  On a GPU its kernels are named: as the default, others may replace them.
  """
  own = custom_kernels(session.platform) or ['default']
  shapes, compared = session.settings.depthwise, session.settings.compared
  left = session.budget.left(_STAGE)
  _time(session, _JAX, shapes, own, 0.7 * left)
  compare(session, shapes[:compared], _STAGE)


def compare(
  session: Session,
  shapes: Sequence[DepthwiseShape],
  budget: str,
  *,
  by_xla: bool = False,
) -> None:
  """Times PyTorch, and XLA's convolution, where they have not been timed.

  A program for each shape, which is killed if it takes long.

  Args:
    session: the run.
    shapes: of the convolutions.
    budget: the stage whose time is used.
    by_xla: whether to time XLA's convolution.
  """
  limit = session.settings.shape_seconds
  for program, variants in (
    (_TORCH, ['PyTorch NHWC', 'PyTorch NCHW']),
    (_JAX, ['lax'] if by_xla else []),
  ):
    for shape in shapes:
      left = [
        variant
        for variant in variants
        if not _is_timed(session, shape, variant)
      ]
      if left:
        seconds = min(limit, session.budget.left(budget))
        _time(session, program, [shape], left, seconds)


def _is_timed(session, shape, variant):
  return any(
    (row['depthwise'], row['variant']) == (str(shape), variant)
    for row in session.rows.select(_STAGE, 'microseconds')
  )


def compare_others(session: Session, budget: str) -> None:
  """Times the implementations that are no default anywhere, on all shapes.

  Args:
    session: the run.
    budget: the stage whose time is used.
  """
  custom = custom_kernels(session.platform)
  others = ['shift'] if custom else implementations(session.platform)[1:]
  shapes, limit = session.settings.depthwise, session.settings.shape_seconds
  for shape in shapes:
    for name in others:
      seconds = min(limit, session.budget.left(budget))
      _time(session, _JAX, [shape], [name], seconds)
  if session.platform != 'gpu':
    return
  flags = f'{os.environ.get("XLA_FLAGS", "")} {_FORCE_NCHW}'.strip()
  for shape in shapes:
    seconds = min(limit, session.budget.left(budget))
    _time(
      *(session, _JAX, [shape], ['lax'], seconds),
      renamed='lax, NCHW forced',
      variables={'XLA_FLAGS': flags},
    )


def _time(
  session: Session,
  program: str,
  shapes: Sequence[DepthwiseShape],
  variants: Sequence[str | None],
  seconds: float,
  *,
  renamed: str | None = None,
  variables: Mapping[str, str] | None = None,
) -> None:
  """Times variants on shapes by one program, within some seconds."""
  pairs = [(shape, variant) for shape in shapes for variant in variants]
  reason = session.why_no_torch() if program == _TORCH else None
  if seconds < session.settings.min_seconds:
    reason = reason or 'no time was left'
  if reason:
    for shape, variant in pairs:
      names = {'depthwise': str(shape), 'variant': renamed or variant}
      session.rows.add(_STAGE, **names, missing=reason)
    return
  cases = [
    Case(
      {
        'depthwise': str(shape),
        'variant': renamed or variant,
        'product': product,
      },
      {
        'shape': dataclasses.asdict(shape),
        'min_bytes': shape.min_bytes,
        'variant': variant,
        'product': product,
      },
    )
    for shape, variant in pairs
    for product in depthwise_cases.PRODUCTS
  ]
  command = (
    session.torch_command(program)
    if program == _TORCH
    else session.jax_command(program)
  )
  request = {'turn_seconds': session.settings.turn_seconds}
  environment = session.environment(**(variables or {}))
  run_cases(session, _STAGE, command, request, cases, seconds, environment)
