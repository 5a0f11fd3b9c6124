"""Depthwise convolution as shifted multiply-adds, in a form fast on GPUs.

Each thread of a fusion computes the same position of every output. With several
outputs, of neighbouring rows or columns, it uses each loaded value several
times. The padded images are stored first: if padding were part of the fusion,
each element would be loaded separately, under a condition.

Both functions have the interface that every backend's have
(`xla/depthwise.py`).
"""

import jax
import jax.numpy as jnp
from jax import lax

_ROWS = 4  # of the output, computed by a thread
_PRODUCTS = 32  # of x and dy, unrolled in a turn of the loop


def correlate(
  x: jax.Array, kernel: jax.Array, bias: jax.Array | None, pad_before: int
) -> jax.Array:
  """Correlates x `[B, H, W, C]` with kernel `[k, k, C]`, plus bias `[C]`.

  Sums in float32; the result has x's dtype.
  """
  batch, height, width, channels = x.shape
  size = kernel.shape[0]
  groups = -(-height // _ROWS)
  padded = _pad(x, size, pad_before, groups * _ROWS - height).astype(
    jnp.float32
  )
  factors = lax.optimization_barrier(kernel.astype(jnp.float32))
  shape = batch, groups, width, channels
  factors = [
    [jnp.broadcast_to(factors[i, j], shape) for j in range(size)]
    for i in range(size)
  ]
  start = 0.0 if bias is None else bias.astype(jnp.float32)

  def every(row):
    """Correlates rows `row`, `row + _ROWS`, ...: `[B, groups, W, C]`."""
    y = start
    for i in range(size):
      for j in range(size):
        first = row + i
        last = first + (groups - 1) * _ROWS + 1
        y += padded[:, first:last:_ROWS, j : j + width] * factors[i][j]
    return y.astype(x.dtype)

  rows = lax.optimization_barrier([every(row) for row in range(_ROWS)])
  y = jnp.stack(rows, axis=2)
  return y.reshape(batch, groups * _ROWS, width, channels)[:, :height]


def kernel_gradient(
  x: jax.Array, dy: jax.Array, size: int, pad_before: int
) -> tuple[jax.Array, jax.Array]:
  """Returns gradients `[k, k, C]`, `[C]` of `correlate`'s kernel and bias.

  In float32. The batch remains a dimension until the end, so that a sharded one
  is not moved.
  """
  batch, height, width, channels = x.shape
  # Otherwise XLA would keep the padded images of the forward pass until now.
  x, dy = lax.optimization_barrier((x, dy))
  padded = _pad(x, size, pad_before)
  # Rows of a turn of the loop: few, since the program grows with them, but the
  # totals are read and written only once for all of them.
  count = max(
    count
    for count in range(1, height + 1)
    if height % count == 0 and (count == 1 or count * width <= _PRODUCTS)
  )

  def add_rows(turn, totals):
    first = turn * count
    rows = lax.dynamic_slice_in_dim(padded, first, count + size - 1, axis=1)
    rows = rows.astype(jnp.float32)
    dy_rows = lax.dynamic_slice_in_dim(dy, first, count, axis=1)
    dy_rows = dy_rows.astype(jnp.float32)
    totals = list(totals)
    for h in range(count):
      columns = jnp.unstack(rows[:, h : h + size], axis=2)
      for w, dy_column in enumerate(jnp.unstack(dy_rows[:, h, None], axis=2)):
        for j in range(size):
          totals[j] += columns[w + j] * dy_column
    return tuple(totals)

  # One for each column of the kernel.
  zeros = (jnp.zeros((batch, size, channels), jnp.float32),) * size
  totals = lax.fori_loop(0, height // count, add_rows, zeros)
  dkernel = jnp.stack([total.sum(0) for total in totals], axis=1)
  return dkernel, dy.astype(jnp.float32).sum((0, 1, 2))


def _pad(x, size, pad_before, below=0):
  high = size - 1 - pad_before
  padded = jnp.pad(
    x, ((0, 0), (pad_before, high + below), (pad_before, high), (0, 0))
  )
  return lax.optimization_barrier(padded)
