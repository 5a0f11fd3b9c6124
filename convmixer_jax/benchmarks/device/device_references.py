"""Reference of the depthwise convolution in float32, on the device.

It is a loop over the positions of the kernel, of slices, products and sums:
none of the operations that are checked, and compiled in a second where the
choice of a convolution by cuDNN takes many.
"""

import jax
import jax.numpy as jnp
from jax import lax


def depthwise(
  x: jax.Array, kernel: jax.Array, bias: jax.Array, dy: jax.Array
) -> dict[str, jax.Array]:
  """Convolves `[B, H, W, C]` with kernel `[k, k, C]`, with gradients.

  Args:
    x: images, float32, as all arrays.
    kernel: of the convolution with "same" padding.
    bias: `[C]`.
    dy: gradient of the result.

  Returns:
    `forward`, and the `input gradient`, `kernel gradient` and `bias gradient`.
  """
  size = kernel.shape[0]
  before, after = (size - 1) // 2, size // 2
  padded, padded_dy = (
    jnp.pad(array, ((0, 0), margin, margin, (0, 0)))
    for array, margin in ((x, (before, after)), (dy, (after, before)))
  )

  def window(array, i, j):
    return lax.dynamic_slice(array, (0, i, j, 0), x.shape)

  def add(position, sums):
    y, dx, dkernel = sums
    i, j = position // size, position % size
    shifted = window(padded, i, j)
    # Where the result's gradient is that this position of the kernel made.
    shifted_dy = window(padded_dy, size - 1 - i, size - 1 - j)
    return (
      y + shifted * kernel[i, j],
      dx + shifted_dy * kernel[i, j],
      dkernel.at[i, j].set(jnp.sum(shifted * dy, (0, 1, 2))),
    )

  y, dx, dkernel = lax.fori_loop(
    0,
    size**2,
    add,
    (jnp.zeros_like(x) + bias, jnp.zeros_like(x), jnp.zeros_like(kernel)),
  )
  return {
    'forward': y,
    'input gradient': dx,
    'kernel gradient': dkernel,
    'bias gradient': dy.sum((0, 1, 2)),
  }
