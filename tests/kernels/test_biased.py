"""Products with bias, residual and activation, against NumPy in float64."""

import json
import math

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from convmixer_jax import kernels
from convmixer_jax.kernels.cpu import library

PRINT_COLLECTIVES = """
import json, re
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax import kernels

mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
images, whole = NamedSharding(mesh, P('data')), NamedSharding(mesh, P())
x = jax.device_put(jnp.ones((8, 6, 4, 5)), images)
residual = jax.device_put(jnp.ones((8, 6, 4, 7)), images)
kernel, bias = jax.device_put((jnp.ones((1, 1, 5, 7)), jnp.ones(7)), whole)

def run(x, kernel, bias, residual):
  how = {'activation': 'relu'}
  return (
    kernels.biased_linear(x, kernel[0, 0], bias, residual, **how),
    kernels.biased_conv(x, kernel, bias, residual, **how),
  )

compiled = jax.jit(run).lower(x, kernel, bias, residual).compile()
text = compiled.as_text()
print(json.dumps({
  'collectives': re.findall(r' (all-\\w+|collective-\\w+)(?:-start)?\\(', text),
  'foreign': len(re.findall('_target="convmixer_(?:conv|product)"', text)),
  'sums': [float(array.sum()) for array in compiled(x, kernel, bias, residual)],
}))
"""

# Which are given: the bias, the residual, the activation.
STEPS = [
  (True, True, 'relu'),
  (True, False, 'gelu'),
  (False, True, None),
  (True, True, 'gelu'),
  (False, False, None),
]


@pytest.fixture(params=['cpu', 'xla', None])
def backend(request):
  if request.param == 'cpu' and library.unavailable('linear'):
    pytest.skip('the CPU kernels need a C++ compiler')
  return request.param


def draw(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def finish(y, bias, residual, activation):
  for array in (bias, residual):
    y = y if array is None else y + np.float64(array)
  if activation == 'relu':
    return np.maximum(y, 0)
  if activation == 'gelu':
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return y * (0.5 + 0.5 * erf(y * 0.5**0.5))
  return y


def operands(steps, shape):
  has_bias, has_residual, activation = steps
  bias = draw(2, shape[-1]) if has_bias else None
  return bias, draw(3, *shape) if has_residual else None, activation


@pytest.mark.parametrize('steps', STEPS)
@pytest.mark.parametrize(
  'shape, columns',
  [
    ((2, 7, 9, 33), 100),  # whole panels of columns, and a part of one
    ((1, 1, 1, 3), 1),
    ((0, 2, 2, 4), 3),
    ((3, 90, 21), 50),  # tokens
    ((3, 50, 21), 50),  # a few
    ((1, 3, 1700), 5),  # sums in several parts
    ((5, 7), 4),
  ],
)
def test_product_equals_reference(shape, columns, steps, backend):
  x, kernel = draw(0, *shape), draw(1, shape[-1], columns) / shape[-1] ** 0.5
  bias, residual, activation = operands(steps, (*shape[:-1], columns))
  y = kernels.biased_linear(
    *(x, kernel, bias, residual), activation=activation, backend=backend
  )
  assert y.dtype == jnp.float32
  expected = np.float64(x) @ np.float64(kernel)
  expected = finish(expected, bias, residual, activation)
  np.testing.assert_allclose(y, expected, 1e-5, 1e-5)


@pytest.mark.parametrize('steps', STEPS)
@pytest.mark.parametrize(
  'size, kernel_size, stride, padding',
  [((9, 12), 3, 2, 1), ((5, 4), 7, 1, 3), ((1, 1), 1, 1, 0)],
)
def test_convolution_equals_reference(
  size, kernel_size, stride, padding, steps, backend
):
  x = draw(0, 3, *size, 6)
  kernel = draw(1, kernel_size, kernel_size, 6, 19) / kernel_size
  how = {'stride': stride, 'padding': padding}
  with jax.enable_x64(True):
    product = lax.conv_general_dilated(
      np.float64(x),
      np.float64(kernel),
      (stride, stride),
      [(padding, padding)] * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    product = np.asarray(product)
  bias, residual, activation = operands(steps, product.shape)
  y = kernels.biased_conv(
    *(x, kernel, bias, residual), activation=activation, backend=backend, **how
  )
  expected = finish(product, bias, residual, activation)
  np.testing.assert_allclose(y, expected, 1e-5, 1e-5)


def test_packed_kernels_give_the_same_bits(backend):
  x, kernel, bias = draw(0, 2, 7, 9, 33), draw(1, 33, 100), draw(2, 100)
  packed = kernels.pack_kernel(kernel, jnp.float32, backend)
  how = {'activation': 'relu', 'backend': backend}
  expected = kernels.biased_linear(
    x, kernel, bias, draw(3, 2, 7, 9, 100), **how
  )
  y = kernels.biased_linear(x, packed, bias, draw(3, 2, 7, 9, 100), **how)
  np.testing.assert_array_equal(y, expected)


def test_results_are_those_of_the_operations_one_by_one_in_bfloat16():
  x, kernel = draw(0, 2, 8, 8, 33).astype(jnp.bfloat16), draw(1, 33, 20)
  bias, residual = draw(2, 20), draw(3, 2, 8, 8, 20).astype(jnp.bfloat16)

  @jax.jit
  def one_by_one(x, kernel, bias, residual):
    ones = jnp.ones_like(bias)
    y = kernels.linear(x, kernel)
    return kernels.affine(y, ones, bias, residual, relu=True)

  @jax.jit
  def at_once(x, kernel, bias, residual):
    return kernels.biased_linear(x, kernel, bias, residual, activation='relu')

  arrays = x, kernel, bias, residual
  np.testing.assert_array_equal(at_once(*arrays), one_by_one(*arrays))


def test_gradients_equal_those_of_the_operations_one_by_one(backend):
  x, kernel, bias = draw(0, 2, 7, 9, 6), draw(1, 3, 3, 6, 5), draw(2, 5)
  residual = draw(3, 2, 7, 9, 5)

  def at_once(x, kernel, bias, residual):
    how = {'activation': 'relu', 'backend': backend}
    y = kernels.biased_conv(x, kernel, bias, residual, padding=1, **how)
    y = kernels.biased_linear(y, kernel[0, 0, :5], bias, y, **how)
    return jnp.sum(jnp.sin(y))

  def one_by_one(x, kernel, bias, residual):
    y = kernels.conv(x, kernel, padding=1, backend='xla')
    y = jax.nn.relu(y + bias + residual)
    return jnp.sum(jnp.sin(jax.nn.relu(y @ kernel[0, 0, :5] + bias + y)))

  found, expected = (
    jax.grad(function, (0, 1, 2, 3))(x, kernel, bias, residual)
    for function in (at_once, one_by_one)
  )
  for array, plain in zip(found, expected, strict=True):
    np.testing.assert_allclose(array, plain, 1e-4, 1e-4)


def test_each_of_several_kernels_has_its_product_under_vmap():
  x, kernel, bias = draw(0, 3, 2, 150, 6), draw(1, 3, 6, 5), draw(2, 3, 5)

  def run(x, kernel, bias):
    return kernels.biased_linear(x, kernel, bias, activation='gelu')

  found = jax.jit(jax.vmap(run))(x, kernel, bias)
  for number in range(3):
    expected = run(x[number], kernel[number], bias[number])
    np.testing.assert_allclose(found[number], expected, 1e-5, 1e-5)


def test_nan_stays_a_nan(backend):
  x = draw(0, 1, 2, 2, 5).at[0, 1, 0, 3].set(jnp.nan)
  for activation in ('relu', 'gelu'):
    y = kernels.biased_linear(
      x, draw(1, 5, 7), draw(2, 7), activation=activation, backend=backend
    )
    expected = np.zeros((1, 2, 2, 7), bool)
    expected[0, 1, 0] = True
    np.testing.assert_array_equal(jnp.isnan(y), expected)


def test_sharded_images_are_not_moved():
  found = json.loads(devices.run(PRINT_COLLECTIVES, 4))
  assert found == {
    'collectives': [],
    'foreign': 2 * (library.unavailable('linear') is None),
    'sums': [8 * 6 * 4 * 7 * 7] * 2,
  }
