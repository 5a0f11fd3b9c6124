"""The pointwise product, against NumPy and autodiff in float32."""

import json
from functools import partial

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import kernels
from convmixer_jax.kernels.cpu import library

PRINT_COLLECTIVES = """
import json, re
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax import kernels

mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
images = NamedSharding(mesh, P('data'))
x, g = (jax.device_put(jnp.ones((8, 3, 2, c)), images) for c in (5, 7))
kernel = jax.device_put(jnp.ones((5, 7)), NamedSharding(mesh, P()))

def run(x, kernel, g):
  y, pull = jax.vjp(kernels.linear, x, kernel)
  return y, *pull(g)

compiled = jax.jit(run).lower(x, kernel, g).compile()
text = compiled.as_text()
collective = r' = (\\S+) (all-\\w+|collective-\\w+)(?:-start)?\\('
print(json.dumps({
  'collectives': re.findall(collective, text),
  'foreign': len(re.findall('convmixer_(?:product|linear_gradient)"', text)),
  'sums': [float(array.sum()) for array in compiled(x, kernel, g)],
}))
"""


@pytest.fixture(params=['cpu', 'xla', None])
def backend(request):
  if request.param == 'cpu' and library.unavailable('linear'):
    pytest.skip('the CPU kernels need a C++ compiler')
  return request.param


def draw(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
  'shape, columns',
  [
    ((2, 3, 5, 7), 4),  # narrower than a vector
    ((2, 7, 9, 33), 100),  # whole panels of columns, and a part of one
    ((1, 1, 1, 1), 1),
    ((4, 8, 8, 64), 48),
    ((0, 2, 2, 4), 3),
    ((3, 90, 33), 100),  # tokens
    ((3, 50, 33), 100),  # a few
    ((2, 0, 4), 3),
    ((1, 3, 1700), 5),  # sums in several parts
    ((5, 100, 6), 7),  # so in the gradient
    ((5, 7), 4),  # neither images nor tokens
    ((7,), 4),
  ],
)
def test_forward_and_gradients_equal_reference(shape, columns, backend):
  x, kernel = draw(0, *shape), draw(1, shape[-1], columns)
  weights = np.asarray(draw(2, *shape[:-1], columns))
  linear = partial(kernels.linear, backend=backend)
  y, pull = jax.jit(partial(jax.vjp, linear))(x, kernel)
  dx, dkernel = pull(jnp.asarray(weights))
  x, kernel = np.float64(x), np.float64(kernel)
  # The longest sums, of 1,700 products, are rounded to 1e-4.
  np.testing.assert_allclose(y, x @ kernel, 1e-5, 1e-4)
  np.testing.assert_allclose(dx, weights @ kernel.T, 1e-5, 1e-5)
  rows = x.reshape(-1, shape[-1]), weights.reshape(-1, columns)
  expected = rows[0].T @ rows[1]
  np.testing.assert_allclose(dkernel, expected, 1e-5, 1e-4)


@pytest.mark.parametrize('shape', [(2, 7, 9, 33), (2, 130, 33)])
def test_packed_kernels_give_the_same_bits(shape, backend):
  x, kernel = draw(0, *shape), draw(1, 33, 100)
  linear = partial(kernels.linear, backend=backend)
  for dtype in (jnp.float32, jnp.bfloat16):
    packed = jax.jit(
      partial(kernels.pack_kernel, dtype=dtype, backend=backend)
    )(kernel)
    y = jax.jit(linear)(x.astype(dtype), packed)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, jax.jit(linear)(x.astype(dtype), kernel))


@pytest.mark.parametrize('count, expected', [(256, 1), (255, 0)])
def test_kernels_multiply_tokens_unless_there_are_few(count, expected):
  x, kernel = draw(0, 1, count, 8), draw(1, 8, 4)
  text = jax.jit(kernels.linear).lower(x, kernel).as_text()
  is_here = library.unavailable('linear') is None
  assert text.count('@convmixer_product') == expected * is_here


def test_each_of_several_kernels_has_its_product_and_gradient_under_vmap():
  x, kernel = draw(0, 3, 2, 150, 6), draw(1, 3, 6, 5)

  def gradients(x, kernel):
    y, pull = jax.vjp(kernels.linear, x, kernel)
    return y, *pull(y)

  found = jax.jit(jax.vmap(gradients))(x, kernel)
  for number in range(3):
    expected = gradients(x[number], kernel[number])
    for array, single in zip(found, expected, strict=True):
      np.testing.assert_allclose(array[number], single, 1e-5, 1e-4)


def test_nan_stays_in_its_row(backend):
  x = draw(0, 1, 2, 2, 5).at[0, 1, 0, 3].set(jnp.nan)
  y = kernels.linear(x, draw(1, 5, 7), backend=backend)
  expected = np.zeros((1, 2, 2, 7), bool)
  expected[0, 1, 0] = True
  np.testing.assert_array_equal(jnp.isnan(y), expected)


def test_bfloat16_sums_and_reduces_in_float32(backend):
  x = jnp.ones((4, 32, 32, 8), jnp.bfloat16)
  kernel = jnp.ones((8, 2))

  def loss(x, kernel):
    y = kernels.linear(x, kernel, backend=backend)
    return jnp.sum(y.astype(jnp.float32))

  dx, dkernel = jax.grad(loss, (0, 1))(x, kernel)
  assert dx.dtype == jnp.bfloat16
  assert dkernel.dtype == jnp.float32
  # Summed in bfloat16, 4,096 ones stop growing at 256.
  np.testing.assert_array_equal(dkernel, np.full((8, 2), 4096.0))


def test_sharded_images_are_not_moved():
  found = json.loads(devices.run(PRINT_COLLECTIVES, 4))
  ((shape, kind),) = found['collectives']  # of the kernel's gradient
  assert shape.startswith('f32[5,7]')
  assert kind == 'all-reduce'
  assert found['foreign'] == 3 * (library.unavailable('linear') is None)
  assert found['sums'] == [8 * 6 * 7 * 5, 8 * 6 * 5 * 7, 5 * 7 * 48]
