"""The gradient of a convolution's kernel in plain JAX."""

import jax
import jax.numpy as jnp
from jax import lax

# Of the product that is the gradient of the kernel: batch and channels change
# places, and the positions of the kernel are those of the result.
_DIMENSIONS = 'CHWN', 'IHWO', 'HWNC'


def kernel_gradient(
  x: jax.Array, dy: jax.Array, *, size: int, stride: int, padding: int
) -> jax.Array:
  """Computes the gradient `[k, k, I, O]` of a convolution's kernel, in float32.

  Args:
    x: `[B, H, W, I]`, float32 or bfloat16.
    dy: `[B, h, w, O]`, the gradient of the convolution, of the same dtype.
    size: k.
    stride: of both axes.
    padding: zeros on each of the four sides of x.
  """
  pads = []
  for axis in (1, 2):
    reach = size + (dy.shape[axis] - 1) * stride
    pads.append((padding, reach - x.shape[axis] - padding))
  return lax.conv_general_dilated(
    x,
    dy,
    window_strides=(1, 1),
    padding=pads,
    rhs_dilation=(stride, stride),
    dimension_numbers=_DIMENSIONS,
    preferred_element_type=jnp.float32,
  )
