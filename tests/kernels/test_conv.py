"""The convolution against sums of products, its gradients against autodiff."""

import functools
import json

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from convmixer_jax import kernels
from convmixer_jax.kernels.cpu import library

PRINT_COLLECTIVES = """
import json, re, sys
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax import kernels

mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
images = NamedSharding(mesh, P('data'))
x = jax.device_put(jnp.ones((8, 6, 4, 5)), images)
stride = int(sys.argv[1])
g = jax.device_put(jnp.ones((8, 6 // stride, 4 // stride, 7)), images)
kernel = jax.device_put(jnp.ones((1, 1, 5, 7)), NamedSharding(mesh, P()))

def run(x, kernel, g):
  y, pull = jax.vjp(lambda *a: kernels.conv(*a, stride=stride), x, kernel)
  return y, *pull(g)

compiled = jax.jit(run).lower(x, kernel, g).compile()
text = compiled.as_text()
print(json.dumps({
  'collectives': re.findall(r' (all-\\w+|collective-\\w+)(?:-start)?\\(', text),
  'foreign': len(re.findall('_target="convmixer_conv[a-z_]*"', text)),
  'sums': [float(array.sum()) for array in compiled(x, kernel, g)],
}))
"""

SLOW = pytest.mark.slow
CASES = [
  # size of the image, of the kernel, stride, padding
  ((9, 12), 3, 2, 1),
  ((9, 12), 4, 1, 0),
  pytest.param(((9, 12), 3, 1, 1), marks=SLOW),
  pytest.param(((8, 1), 3, 2, 1), marks=SLOW),
  pytest.param(((7, 10), 1, 2, 0), marks=SLOW),
  pytest.param(((8, 10), 2, 3, 0), marks=SLOW),
  pytest.param(((1, 5), 3, 4, 2), marks=SLOW),
  pytest.param(((11, 9), 7, 2, 3), marks=SLOW),
]


def draw(size, kernel_size, dtype):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, 3)).astype(dtype)
  kernel = rng.normal(size=(kernel_size, kernel_size, 3, 4)).astype(np.float32)
  return jnp.asarray(x), jnp.asarray(kernel)


def reference(x, kernel, stride, padding):
  """Sums over the kernel's positions, by products alone."""
  size, channels = kernel.shape[0], kernel.shape[-1]
  pads = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
  padded = np.pad(np.float64(x), pads)
  rows, columns = (
    (side + 2 * padding - size) // stride + 1 for side in x.shape[1:3]
  )
  y = np.zeros((x.shape[0], rows, columns, channels))
  for i in range(size):
    for j in range(size):
      part = padded[:, i::stride, j::stride][:, :rows, :columns]
      y += part @ np.float64(kernel[i, j])
  return y


@pytest.fixture(params=['cpu', 'xla', None])
def backend(request):
  if request.param == 'cpu' and library.unavailable('linear'):
    pytest.skip('the CPU kernels need a C++ compiler')
  return request.param


@pytest.mark.parametrize('case', CASES)
def test_convolution_equals_sums_of_products(case, backend):
  size, kernel_size, stride, padding = case
  x, kernel = draw(size, kernel_size, np.float32)
  y = kernels.conv(x, kernel, stride=stride, padding=padding, backend=backend)
  expected = reference(x, kernel, stride, padding)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('case', CASES)
def test_gradients_equal_those_of_autodiff(case, backend):
  size, kernel_size, stride, padding = case
  x, kernel = draw(size, kernel_size, np.float32)

  def plain(x, kernel):
    return lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      [(padding, padding)] * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  ours = functools.partial(
    kernels.conv, stride=stride, padding=padding, backend=backend
  )
  shape = jax.eval_shape(ours, x, kernel).shape
  g = np.random.default_rng(1).normal(size=shape).astype(np.float32)
  found, expected = jax.jit(
    lambda *arrays: tuple(
      jax.vjp(function, *arrays)[1](g) for function in (ours, plain)
    )
  )(x, kernel)
  for ours, plain in zip(found, expected, strict=True):
    np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_gradient_of_the_kernel_is_summed_in_float32():
  x, kernel = draw((9, 12), 3, jnp.bfloat16)
  y, pull = jax.vjp(lambda *arrays: kernels.conv(*arrays, padding=1), x, kernel)
  assert y.dtype == jnp.bfloat16
  g = jax.random.normal(jax.random.key(1), y.shape, jnp.bfloat16)
  dx, dkernel = pull(g)
  assert (dx.dtype, dkernel.dtype) == (jnp.bfloat16, jnp.float32)
  _, pull_exact = jax.vjp(
    lambda kernel: kernels.conv(x.astype(jnp.float32), kernel, padding=1),
    kernel,
  )
  (expected,) = pull_exact(g.astype(jnp.float32))
  np.testing.assert_allclose(dkernel, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('stride', [1, 2])
def test_sharded_images_are_not_moved(stride):
  found = json.loads(devices.run(PRINT_COLLECTIVES, 4, str(stride)))
  assert found == {
    'collectives': ['all-reduce'],
    'foreign': 3 * (library.unavailable('linear') is None),
    'sums': [8 * 6 * 4 * 5 * 7 // stride**2] * 3,
  }


def test_unknown_backend_is_refused():
  with pytest.raises(ValueError, match="backend 'cuda' is unknown; use one of"):
    kernels.conv(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2)), backend='cuda')
