"""The maximum of windows, against the definition and PyTorch's gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import kernels

SHAPES = [(2, 6, 7, 3), (1, 5, 4, 2), (1, 1, 2, 1)]


def images(shape, rng):
  # Few values, so that many are equal; also negative ones at the edges.
  return rng.integers(-3, 2, shape).astype(np.float32)


def windows(x):
  """Yields each position of the result, and the slices of its window."""
  height, width = x.shape[1:3]
  for row in range((height + 1) // 2):
    for column in range((width + 1) // 2):
      yield (
        (row, column),
        slice(max(2 * row - 1, 0), 2 * row + 2),
        slice(max(2 * column - 1, 0), 2 * column + 2),
      )


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_gradient_goes_to_the_first_maximum(shape, dtype):
  rng = np.random.default_rng(0)
  x = images(shape, rng)
  y, pull = jax.vjp(kernels.max_pool, jnp.asarray(x, dtype))
  g = rng.integers(-4, 5, y.shape).astype(np.float32)
  (dx,) = pull(jnp.asarray(g, dtype))
  expected = np.zeros_like(x)
  for (row, column), rows, columns in windows(x):
    for b in range(shape[0]):
      for c in range(shape[-1]):
        part = x[b, rows, columns, c]
        assert y[b, row, column, c] == part.max()
        first = np.unravel_index(part.argmax(), part.shape)
        expected[b, rows, columns, c][first] += g[b, row, column, c]
  assert (y.dtype, dx.dtype) == (dtype, dtype)
  np.testing.assert_array_equal(dx.astype(jnp.float32), expected)


def test_result_equals_flax():
  x = images((2, 9, 8, 4), np.random.default_rng(1))
  np.testing.assert_array_equal(
    kernels.max_pool(x),
    nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1))),
  )
