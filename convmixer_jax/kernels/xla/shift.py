"""Depthwise convolution as shifted multiply-adds that XLA fuses.

XLA:CPU's own grouped convolution is a scalar loop. A sum of shifted products
is one elementwise fusion instead, vectorised over the channels. A GPU wants
the sum in another form (`shift_gpu.py`).
Both functions have the interface every implementation has (`depthwise.py`).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax.kernels.xla import shift_gpu


def _pad(x: jax.Array, size: int, low: int) -> jax.Array:
  pad = (low, size - 1 - low)
  return jnp.pad(x, ((0, 0), pad, pad, (0, 0)))


def correlate(
  x: jax.Array, kernel: jax.Array, bias: jax.Array | None, low: int
) -> jax.Array:
  """Correlates x `[B, H, W, C]` with kernel `[k, k, C]`, `low` zeros before.

  Sums in float32; the result has x's dtype.
  """
  return lax.platform_dependent(
    *(x, kernel, bias),
    cuda=functools.partial(shift_gpu.correlate, low=low),
    default=functools.partial(_correlate, low=low),
  )


def _correlate(x, kernel, bias, low):
  _, height, width, _ = x.shape
  size = kernel.shape[0]
  padded = _pad(x, size, low).astype(jnp.float32)
  kernel = kernel.astype(jnp.float32)
  y = 0.0 if bias is None else bias.astype(jnp.float32)
  for i in range(size):
    for j in range(size):
      y += padded[:, i : i + height, j : j + width] * kernel[i, j]
  return y.astype(x.dtype)


def correlate_kernel(
  x: jax.Array, dy: jax.Array, size: int, low: int
) -> tuple[jax.Array, jax.Array]:
  """Gradients `[k, k, C]`, `[C]` of `correlate`'s kernel and bias given dy.

  In float32.
  """
  how = {'size': size, 'low': low}
  return lax.platform_dependent(
    *(x, dy),
    cuda=functools.partial(shift_gpu.correlate_kernel, **how),
    default=functools.partial(_correlate_kernel, **how),
  )


def _correlate_kernel(x, dy, size, low):
  # A reduction for each of the k*k elements reads everything k*k times. A row
  # of the image at a time, the sum over its columns is one fusion again, whose
  # result is a kernel. The batch stays a dimension, so that a sharded one stays
  # where it is.
  batch, height, width, channels = x.shape
  padded = _pad(x, size, low)

  def add_row(h, total):
    rows = lax.dynamic_slice_in_dim(padded, h, size, axis=1)
    rows = rows.astype(jnp.float32)
    dy_row = lax.dynamic_index_in_dim(dy, h, axis=1, keepdims=False)
    dy_row = dy_row.astype(jnp.float32)
    for w in range(width):
      total += rows[:, :, w : w + size] * dy_row[:, w, None, None]
    return total

  zeros = jnp.zeros((batch, size, size, channels), jnp.float32)
  dkernel = lax.fori_loop(0, height, add_row, zeros).sum(0)
  return dkernel, dy.astype(jnp.float32).sum((0, 1, 2))
