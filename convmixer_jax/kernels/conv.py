"""The convolution with any kernel and stride, as PyTorch pads it."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

_DIMENSIONS = 'NHWC', 'HWIO', 'NHWC'
# Of the product that is the gradient of the kernel: batch and channels change
# places, and the positions of the kernel are those of the result.
_GRADIENT_DIMENSIONS = 'CHWN', 'IHWO', 'HWNC'


def conv(
  x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0
) -> jax.Array:
  """Computes a convolution in the dtype of `x`, without bias.

  The padding is symmetric, whatever the size of the image: `padding='SAME'` of
  XLA pads (0, 1) for a kernel of 3 and stride 2. The gradient of `kernel` is
  summed and returned in float32: autodiff would give it the dtype of `x`, and a
  gradient in bfloat16 would be reduced across devices in bfloat16.

  Args:
    x: `[B, H, W, I]`, float32 or bfloat16.
    kernel: `[k, k, I, O]`, the parameter in its own dtype.
    stride: of both axes.
    padding: zeros on each of the four sides.

  Returns:
    `[B, h, w, O]`, dtype of `x`, where h = (H + 2 padding - k) // stride + 1.
  """
  return _conv(x, kernel, stride, padding)


def _correlate(x, kernel, stride, padding):
  return lax.conv_general_dilated(
    x,
    kernel.astype(x.dtype),
    window_strides=(stride, stride),
    padding=[(padding, padding)] * 2,
    dimension_numbers=_DIMENSIONS,
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(*arguments):
  return _correlate(*arguments)


def _forward(x, kernel, stride, padding):
  return _correlate(x, kernel, stride, padding), (x, kernel)


def _backward(stride, padding, saved, g):
  x, kernel = saved
  (dx,) = jax.linear_transpose(
    lambda x: _correlate(x, kernel, stride, padding), x
  )(g)
  pads = []
  for axis in (1, 2):
    reach = kernel.shape[axis - 1] + (g.shape[axis] - 1) * stride
    pads.append((padding, reach - x.shape[axis] - padding))
  dkernel = lax.conv_general_dilated(
    x,
    g,
    window_strides=(1, 1),
    padding=pads,
    rhs_dilation=(stride, stride),
    dimension_numbers=_GRADIENT_DIMENSIONS,
    preferred_element_type=jnp.float32,
  )
  return dx, dkernel.astype(kernel.dtype)


_conv.defvjp(_forward, _backward)
