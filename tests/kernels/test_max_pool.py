"""The maximum of windows, against the definition and PyTorch's gradient."""

import functools
import json

import devices
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import kernels
from convmixer_jax.kernels.cpu import library

SHAPES = [(2, 6, 7, 3), (1, 5, 4, 2), (1, 1, 2, 1), (1, 4, 3, 70)]

PRINT_SHARDED = """
import json, re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax.kernels import max_pool

rng = np.random.default_rng(0)
x, g = (
  jnp.asarray(rng.integers(-3, 4, (8, *sides, 5)), jnp.float32)
  for sides in ((6, 7), (3, 4))
)
run = lambda x, g: jax.vjp(max_pool, x)[1](g)[0]
mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
sharded = jax.device_put((x, g), NamedSharding(mesh, P('data')))
compiled = jax.jit(run).lower(*sharded).compile()
print(json.dumps({
  'collectives': re.findall('all-[a-z]+', compiled.as_text()),
  'is_equal': bool((compiled(*sharded) == jax.jit(run)(x, g)).all()),
}))
"""


@pytest.fixture(params=['cpu', 'xla', None])
def backend(request):
  if request.param == 'cpu' and library.unavailable('max_pool'):
    pytest.skip('the CPU kernels need a C++ compiler')
  return request.param


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
def test_gradient_goes_to_the_first_maximum(shape, dtype, backend):
  rng = np.random.default_rng(0)
  x = images(shape, rng)
  pool = functools.partial(kernels.max_pool, backend=backend)
  y, pull = jax.vjp(pool, jnp.asarray(x, dtype))
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


def test_result_equals_flax_also_with_nan(backend):
  x = images((2, 9, 8, 4), np.random.default_rng(1))
  x[0, 2, 3], x[1, 8, 7, 1], x[0, 5, 5] = np.nan, np.nan, -np.inf
  x = jnp.asarray(x)
  np.testing.assert_array_equal(
    kernels.max_pool(x, backend=backend),
    nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1))),
  )


def test_mapped_images_have_the_same_result(backend):
  x = jnp.asarray(images((3, 2, 5, 4, 2), np.random.default_rng(2)))
  pool = functools.partial(kernels.max_pool, backend=backend)
  np.testing.assert_array_equal(
    jax.vmap(pool)(x), pool(x.reshape(6, 5, 4, 2)).reshape(3, 2, 3, 2, 2)
  )


def test_sharded_images_are_not_moved():
  found = json.loads(devices.run(PRINT_SHARDED, 4))
  assert found == {'collectives': [], 'is_equal': True}
