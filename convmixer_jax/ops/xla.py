"""Depthwise convolution as XLA's own convolution: for TPU and GPU.

Both functions have the interface every implementation has (`depthwise.py`).
"""

import jax
import jax.numpy as jnp
from jax import lax


def _conv(x: jax.Array, kernel: jax.Array, low: int) -> jax.Array:
  size, _, channels = kernel.shape
  return lax.conv_general_dilated(
    x,
    kernel[:, :, None, :],
    window_strides=(1, 1),
    padding=[(low, size - 1 - low)] * 2,
    feature_group_count=channels,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def correlate(
  x: jax.Array, kernel: jax.Array, bias: jax.Array | None, low: int
) -> jax.Array:
  """Correlates x `[B, H, W, C]` with kernel `[k, k, C]`, `low` zeros before.

  The sum is in float32 as accelerators accumulate it; cuDNN knows no bfloat16
  convolution with a float32 result, so a bfloat16 one is rounded once before
  the bias too.
  """
  y = _conv(x, kernel, low)
  if bias is not None:
    y = y.astype(jnp.float32) + bias.astype(jnp.float32)
  return y.astype(x.dtype)


def correlate_kernel(
  x: jax.Array, dy: jax.Array, size: int, low: int
) -> tuple[jax.Array, jax.Array]:
  """Gradients `[k, k, C]`, `[C]` of `correlate`'s kernel and bias given dy.

  In float32."""
  # Casting first makes the result, and any reduction of it over devices,
  # float32.
  x, dy = x.astype(jnp.float32), dy.astype(jnp.float32)
  kernel = jax.ShapeDtypeStruct((size, size, x.shape[-1]), jnp.float32)
  transpose = jax.linear_transpose(lambda kernel: _conv(x, kernel, low), kernel)
  return transpose(dy)[0], dy.sum((0, 1, 2))
