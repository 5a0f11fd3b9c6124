"""The convolution and its gradients in plain JAX.

The functions have the interface that every backend's have (`conv.py`).
"""

import jax
import jax.numpy as jnp
from jax import lax

_DIMENSIONS = 'NHWC', 'HWIO', 'NHWC'
# Of the product that is the gradient of the kernel: batch and channels change
# places, and the positions of the kernel are those of the result.
_GRADIENT_DIMENSIONS = 'CHWN', 'IHWO', 'HWNC'


def convolve(
  x: jax.Array, kernel: jax.Array, *, stride: int, padding: int
) -> jax.Array:
  """Computes a convolution of x `[B, H, W, I]` with kernel `[k, k, I, O]`.

  Args:
    x: images.
    kernel: of the dtype of x, which the result has too.
    stride: of both axes.
    padding: zeros on each of the four sides.
  """
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding=[(padding, padding)] * 2,
    dimension_numbers=_DIMENSIONS,
  )


def transposed(
  dy: jax.Array, kernel: jax.Array, *, shape: tuple[int, ...], **how: int
) -> jax.Array:
  """Computes the gradient of x of `convolve`.

  Args:
    dy: the gradient of the convolution, `[B, h, w, O]`.
    kernel: see `convolve`.
    shape: of x.
    **how: stride and padding of `convolve`.
  """
  x = jax.ShapeDtypeStruct(shape, dy.dtype)
  (dx,) = jax.linear_transpose(lambda x: convolve(x, kernel, **how), x)(dy)
  return dx


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
    dimension_numbers=_GRADIENT_DIMENSIONS,
    preferred_element_type=jnp.float32,
  )
