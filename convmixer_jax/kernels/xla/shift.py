"""Depthwise convolution as shifted multiply-adds that XLA fuses.

XLA:CPU's own grouped convolution is a scalar loop. A sum of shifted products
is one elementwise fusion instead, vectorised over the channels. On GPUs
another form of the sum is faster (`shift_gpu.py`).

Both functions have the interface that every backend's have
(`xla/depthwise.py`).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax.kernels.xla import shift_gpu


def _pad(x: jax.Array, size: int, pad_before: int) -> jax.Array:
  pad = (pad_before, size - 1 - pad_before)
  return jnp.pad(x, ((0, 0), pad, pad, (0, 0)))


def correlate(
  x: jax.Array, kernel: jax.Array, bias: jax.Array | None, pad_before: int
) -> jax.Array:
  """Correlates x `[B, H, W, C]` with kernel `[k, k, C]`, plus bias `[C]`.

  Sums in float32; the result has x's dtype.
  """
  return lax.platform_dependent(
    *(x, kernel, bias),
    cuda=functools.partial(shift_gpu.correlate, pad_before=pad_before),
    default=functools.partial(_correlate, pad_before=pad_before),
  )


def _correlate(x, kernel, bias, pad_before):
  _, height, width, _ = x.shape
  size = kernel.shape[0]
  padded = _pad(x, size, pad_before).astype(jnp.float32)
  kernel = kernel.astype(jnp.float32)
  y = 0.0 if bias is None else bias.astype(jnp.float32)
  for i in range(size):
    for j in range(size):
      y += padded[:, i : i + height, j : j + width] * kernel[i, j]
  return y.astype(x.dtype)


def kernel_gradient(
  x: jax.Array, dy: jax.Array, size: int, pad_before: int
) -> tuple[jax.Array, jax.Array]:
  """Returns gradients `[k, k, C]`, `[C]` of `correlate`'s kernel and bias.

  In float32.
  """
  return lax.platform_dependent(
    *(x, dy),
    cuda=lambda x, dy: shift_gpu.kernel_gradient(x, dy, size, pad_before),
    default=lambda x, dy: _kernel_gradient(x, dy, size, pad_before),
  )


def _kernel_gradient(x, dy, size, pad_before):
  # One reduction for each of the k * k elements would read everything k * k
  # times. For one row of the image, the sum over its columns is a single
  # fusion, whose result is a kernel. The batch remains a dimension, so that a
  # sharded one is not moved.
  batch, height, width, channels = x.shape
  padded = _pad(x, size, pad_before)

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
