"""Compares kernels that the emulator ran with references in float64."""

import ml_dtypes
import numpy as np
from convolution_references import (
  activate,
  correlate,
  kernel_gradient,
  random_array,
  slope_of,
)

from convmixer_jax.kernels.gpu import instances
from convmixer_jax.kernels.gpu.instances import Epilogue


def draw_buffers(kind, shape, size, seed=None):
  """Draws all operands that there may be; results are NaN."""
  rng = np.random.default_rng(size + 10 * shape[2] if seed is None else seed)
  channels = shape[-1]
  rows = 2 if kind == 'forward' else size**2 + 1
  buffers = {name: random_array(rng, *shape) for name in ('x', 'residual')}
  buffers |= {
    'z': 2 * random_array(rng, *shape),
    'dy': random_array(rng, *shape),
    'kernel': random_array(rng, size, size, channels),
    'bias': random_array(rng, channels),
    'factor': rng.standard_normal(channels).astype(np.float32),
    'coefficients': rng.standard_normal((3, channels)).astype(np.float32),
    'y': np.full(shape, np.nan, ml_dtypes.bfloat16),
    'sums': np.full((rows, channels), np.nan, np.float32),
  }
  return buffers


def check(
  emulator, kind, shape, size, pad_before, epilogue=Epilogue(), *,  # noqa: B008
  orders=(0,), seed=None, **options,
):  # fmt: skip
  """Runs an instance in orders of threads, and expects the same, right, bits.

  Args:
    emulator: a `gpu_emulator.Emulator`.
    kind: as all up to `epilogue` in `instances.instance`.
    shape: of the images.
    size: of the kernel.
    pad_before: zeros before the image.
    epilogue: of the forward kernel.
    orders: of threads.
    seed: of the operands.
    **options: others of `instances.instance`.
  """
  instance = instances.instance(
    kind, shape, size, pad_before, epilogue, **options
  )
  results = set()
  for order in orders:
    buffers = draw_buffers(kind, shape, size, seed)
    if epilogue.gradient:
      buffers['bias'] = None
      buffers['dy'][:] = np.nan
    emulator.run(instance, buffers, order)
    results.add(
      b''.join(buffers[name].tobytes() for name in ('y', 'dy', 'sums'))
    )
  assert len(results) == 1
  if kind == 'kernel_gradient':
    _check_kernel_gradient(buffers, size, pad_before)
  elif epilogue.gradient:
    _check_gradient(buffers, size, pad_before, epilogue)
  else:
    _check_forward(buffers, size, pad_before, epilogue)


def _check_kernel_gradient(buffers, size, pad_before):
  expected = kernel_gradient(buffers['x'], buffers['dy'], size, pad_before)
  np.testing.assert_allclose(
    buffers['sums'], expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max()
  )


def _check_forward(buffers, size, pad_before, epilogue):
  before = correlate(
    buffers['x'], buffers['kernel'], buffers['bias'], pad_before
  )
  found = buffers['y'].astype(np.float64)
  if epilogue.sums or epilogue == Epilogue():
    # float32 sums of terms of about `size`, rounded to bfloat16
    error = np.abs(found - before) - 2.0**-8 * np.abs(before)
    assert error.max() < 1e-5 * size
  if epilogue.sums:
    a = activate(found, epilogue.activation)
    sums = np.stack([a.sum((0, 1, 2)), np.square(a).sum((0, 1, 2))])
    # GELU is a polynomial, within 1.3e-4, and much nearer in the mean.
    count = found[..., 0].size
    np.testing.assert_allclose(
      buffers['sums'], sums, rtol=1e-4, atol=3e-5 * count + 3e-4
    )
    return
  y = before
  if epilogue.activation or epilogue.scale:
    factor = buffers['factor'].astype(np.float64) if epilogue.scale else 1
    y = before = activate(y, epilogue.activation) * factor
  if epilogue.residual:
    before = y.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)
    y = before + buffers['residual'].astype(np.float64)
  error = np.abs(found - y)
  limit = 2.0**-8 * np.abs(y) + 3e-4
  assert (error > limit).sum() <= max(1, 0.01 * y.size)
  # A sum rounded to bfloat16 before may round the other way.
  assert (error <= limit + 2.0**-7 * np.abs(before) + 3e-4).all()


def _check_gradient(buffers, size, pad_before, epilogue):
  g, z = (buffers[name].astype(np.float64) for name in ('x', 'z'))
  p, q, r = buffers['coefficients'].astype(np.float64)
  slope = p * g + q * activate(z, epilogue.activation) + r
  dy = slope * slope_of(epilogue.activation, z)
  error = np.abs(buffers['dy'].astype(np.float64) - dy)
  # Both polynomials of GELU are within 1.3e-4.
  assert (error <= 2.0**-8 * np.abs(dy) + 5e-4 * (1 + np.abs(slope))).all()
  # What is convolved is the dy that was written.
  y = correlate(buffers['dy'], buffers['kernel'], np.zeros(1), pad_before)
  error = np.abs(buffers['y'].astype(np.float64) - (y + g))
  assert (error <= 2.0**-8 * (np.abs(y) + np.abs(y + g)) + 1e-4 * size).all()
