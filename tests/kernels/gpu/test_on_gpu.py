"""The GPU kernels against XLA's convolution in float32, on a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax.kernels import depthwise_conv

pytestmark = pytest.mark.gpu

SHAPES = [
  (64, 32, 32, 768, 7),
  (64, 32, 32, 1536, 9),
  (17, 16, 16, 64, 5),
  (3, 13, 25, 32, 8),
  (5, 12, 59, 16, 4),
  (2, 9, 133, 48, 6),
  (1, 32, 32, 256, 9),
  (9, 7, 7, 16, 3),
]


@pytest.fixture(autouse=True)
def gpu():
  if jax.default_backend() != 'gpu':
    pytest.skip(f"JAX's backend is {jax.default_backend()}, not a GPU")


def convolve_with_gradients(backend, dtype, arrays):
  x, kernel, bias, dy = (array.astype(dtype) for array in arrays)

  def convolve(*arguments):
    return depthwise_conv(*arguments, backend=backend)

  y, gradients = jax.vjp(convolve, x, kernel, bias)
  return y, *gradients(dy)


def random_arrays(shape):
  *images, size = shape
  keys = jax.random.split(jax.random.key(size), 4)
  shapes = images, (size, size, images[-1]), images[-1:], images
  return [
    jax.random.normal(key, shape, jnp.bfloat16)
    for key, shape in zip(keys, shapes, strict=True)
  ]


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_result_and_gradients_are_those_of_xla_in_float32(shape):
  arrays = random_arrays(shape)
  with jax.default_matmul_precision('highest'):
    expected = jax.jit(convolve_with_gradients, static_argnums=(0, 1))(
      'xla', jnp.float32, arrays
    )
  found = jax.jit(convolve_with_gradients, static_argnums=(0, 1))(
    'cuda', jnp.bfloat16, arrays
  )
  for ours, theirs in zip(found, expected, strict=True):
    ours, theirs = (np.asarray(a, np.float64) for a in (ours, theirs))
    # All are rounded once to bfloat16: y, and gradients of bfloat16 arrays.
    scale = np.sqrt(np.mean(np.square(theirs)))
    np.testing.assert_allclose(ours, theirs, rtol=2.0**-8, atol=1e-3 * scale)


@pytest.mark.parametrize('shape', SHAPES[1:4], ids=str)
def test_bits_are_the_same_each_time(shape):
  arrays = random_arrays(shape)
  run = jax.jit(convolve_with_gradients, static_argnums=(0, 1))
  first = run('cuda', jnp.bfloat16, arrays)
  for _ in range(3):
    for ours, theirs in zip(
      run('cuda', jnp.bfloat16, arrays), first, strict=True
    ):
      np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
