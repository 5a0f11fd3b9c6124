"""The maximum of 3 x 3 positions with stride 2 in plain JAX.

`max_pool` and `gradient` have the interface that every backend's have.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

SIZE, STRIDE = 3, 2


def max_pool(x: jax.Array) -> jax.Array:
  """Returns the maxima of 3 x 3 positions around every second one.

  Args:
    x: `[B, H, W, C]`.

  Returns:
    `[B, ceil(H / 2), ceil(W / 2), C]`, dtype of x.
  """
  return lax.reduce_window(
    x,
    -jnp.inf,
    lax.max,
    (1, SIZE, SIZE, 1),
    (1, STRIDE, STRIDE, 1),
    ((0, 0), (1, 1), (1, 1), (0, 0)),
  )


def gradient(x: jax.Array, y: jax.Array, g: jax.Array) -> jax.Array:
  """Returns the gradient of x, which goes to the first of equal values.

  On CPUs it is lost for a window at the edge of only -inf: the padding, -inf
  too, comes first.

  Args:
    x: `[B, H, W, C]`.
    y: the maxima.
    g: their gradient, like y.
  """
  return lax.platform_dependent(
    x, y, g, cpu=_gradient_by_comparison, default=_gradient_by_xla
  )


def _gradient_by_xla(x, y, g):
  """Returns the gradient of x, as XLA has it."""
  del y
  (dx,) = jax.vjp(max_pool, x)[1](g)
  return dx


def _gradient_by_comparison(x, y, g):
  """Returns the same, comparing each position of a window with its maximum.

  XLA:CPU expands its own form to a scatter, which takes ten times as long.
  """
  height, width = x.shape[1:3]
  rows, columns = y.shape[1:3]
  padded = lax.pad(
    x,
    jnp.array(-jnp.inf, x.dtype),
    (
      (0, 0, 0),
      (1, STRIDE * rows - height, 0),
      (1, STRIDE * columns - width, 0),
      (0, 0, 0),
    ),
  )
  g = g.astype(jnp.float32)
  is_found = jnp.zeros(y.shape, bool)
  by_row = []
  for i in range(SIZE):
    parts = []
    for j in range(SIZE):
      last = i + STRIDE * rows - 1, j + STRIDE * columns - 1
      values = padded[:, i : last[0] : STRIDE, j : last[1] : STRIDE]
      is_maximum = values == y
      parts.append(jnp.where(is_maximum & ~is_found, g, 0.0))
      is_found |= is_maximum
    by_row.append(_interleave(parts, axis=2))
  dx = _interleave(by_row, axis=1)
  return dx[:, 1 : 1 + height, 1 : 1 + width].astype(x.dtype)


def _interleave(parts: Sequence[jax.Array], axis: int) -> jax.Array:
  """Adds up windows of length 3 and stride 2 along an axis.

  Args:
    parts: the first, second and third elements of all n windows.
    axis: whose length n becomes 2 n + 2; the last element is zero.
  """

  def pad(array, before):
    pads = [(0, 0)] * array.ndim
    pads[axis] = (before, 1 - before)
    return jnp.pad(array, pads)

  first, second, third = parts
  # The third element of a window is the first of the next one.
  both = jnp.stack([pad(first, 0) + pad(third, 1), pad(second, 0)], axis + 1)
  shape = list(first.shape)
  shape[axis] = 2 * shape[axis] + 2
  return both.reshape(shape)
