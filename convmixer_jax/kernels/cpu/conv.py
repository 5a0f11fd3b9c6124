"""Convolutions by the C++ kernels of csrc/linear.cc, in float32.

They are products of windows, which are not written to memory. The functions
have to be available (`library.unavailable`). Sharded images are not moved.
"""

import jax
import numpy as np

from convmixer_jax.kernels.cpu.images_call import (
  IMAGES,
  ROOM,
  SUMS,
  WHOLE,
  call,
)
from convmixer_jax.kernels.cpu.linear import epilogue, packed_shape


def convolve(
  x: jax.Array, kernel: jax.Array, *, stride: int, padding: int
) -> jax.Array:
  """Computes a convolution of x `[B, H, W, I]` with kernel `[k, k, I, O]`.

  Args:
    x: images.
    kernel: in float32.
    stride: of both axes.
    padding: zeros on each of the four sides.
  """
  return biased_convolve(
    x, kernel, None, None, stride=stride, padding=padding, activation=None
  )


def biased_convolve(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None,
  residual: jax.Array | None,
  *,
  stride: int,
  padding: int,
  activation: str | None,
) -> jax.Array:
  """Computes `activation(convolution + bias + residual)`; see `convolve`.

  Args:
    x: images.
    kernel: in float32.
    bias: `[O]`, or None.
    residual: like the convolution, or None.
    stride: of both axes.
    padding: zeros on each of the four sides.
    activation: 'gelu', 'relu' or None.
  """
  size, columns = kernel.shape[0], kernel.shape[-1]
  sides = ((side + 2 * padding - size) // stride + 1 for side in x.shape[1:3])
  operands, steps = epilogue(bias, residual, activation)
  (y,) = call(
    'conv',
    [(IMAGES, x), (WHOLE, kernel), *operands],
    [
      (IMAGES, (*sides, columns)),
      (ROOM, packed_shape(size * size * x.shape[-1], columns)),
    ],
    stride=np.int64(stride),
    padding=np.int64(padding),
    steps=steps,
  )
  return y


def transposed(
  dy: jax.Array,
  kernel: jax.Array,
  *,
  shape: tuple[int, ...],
  stride: int,
  padding: int,
) -> jax.Array:
  """Computes the gradient of x of `convolve`.

  Args:
    dy: the gradient of the convolution, `[B, h, w, O]`.
    kernel: see `convolve`.
    shape: of x.
    stride: of both axes.
    padding: zeros on each of the four sides of x.
  """
  size, outputs = kernel.shape[0], kernel.shape[-1]
  # With a stride, a second array like x is room for its phases.
  dx, _ = call(
    'conv_transposed',
    [(IMAGES, dy), (WHOLE, kernel)],
    [
      (IMAGES, shape[1:]),
      (ROOM, packed_shape(size * size * outputs, shape[-1])),
      (IMAGES, shape[1:] if stride > 1 else (0, 0, 0)),
    ],
    stride=np.int64(stride),
    padding=np.int64(padding),
  )
  return dx


def kernel_gradient(
  x: jax.Array, dy: jax.Array, *, size: int, stride: int, padding: int
) -> jax.Array:
  """Computes the gradient `[k, k, I, O]` of a convolution's kernel.

  Args:
    x: `[B, H, W, I]`.
    dy: `[B, h, w, O]`, the gradient of the convolution.
    size: k.
    stride: of both axes.
    padding: zeros on each of the four sides of x.
  """
  (gradient,) = call(
    'conv_gradient',
    [(IMAGES, x), (IMAGES, dy)],
    [(SUMS, (size, size, x.shape[-1], dy.shape[-1]))],
    stride=np.int64(stride),
    padding=np.int64(padding),
  )
  return gradient
