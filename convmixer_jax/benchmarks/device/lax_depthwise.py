"""Depthwise convolution by `lax.conv_general_dilated`, for comparison."""

import jax
from jax import lax


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves x `[B, H, W, C]` with kernel `[k, k, C]` and "same" padding.

  The kernel is cast to the dtype of x, which is also that of the result.
  """
  size, _, channels = kernel.shape
  return lax.conv_general_dilated(
    x,
    kernel[:, :, None].astype(x.dtype),
    window_strides=(1, 1),
    padding=[((size - 1) // 2, size // 2)] * 2,
    feature_group_count=channels,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
