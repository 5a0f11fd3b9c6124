"""BatchNorm with residual and ReLU after it, against autodiff and NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import kernels

EPSILON = 1e-5


def draw(dtype=jnp.float32):
  keys = jax.random.split(jax.random.key(0), 4)
  x, residual = (
    jax.random.normal(key, (4, 3, 5, 6)).astype(dtype) for key in keys[:2]
  )
  scale, offset = (jax.random.normal(key, (6,)) for key in keys[2:])
  return 2 * x + 1, 1 + scale, offset, residual


def plain(x, scale, offset, residual, relu, group_size):
  """Computes the same in the straightforward way, for autodiff."""
  groups = x.reshape(-1, group_size, *x.shape[1:])
  mean = groups.mean((1, 2, 3), keepdims=True)
  var = jnp.square(groups - mean).mean((1, 2, 3), keepdims=True)
  y = (groups - mean) / jnp.sqrt(var + EPSILON) * scale + offset
  y = y.reshape(x.shape)
  if residual is not None:
    y += residual
  return jnp.maximum(y, 0) if relu else y


@pytest.mark.parametrize(
  ('relu', 'has_residual', 'group_size'),
  [
    (True, True, 2),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in [(True, False, 4), (False, True, 4), (False, False, 2)]
    ),
  ],
)
def test_result_and_gradients_equal_autodiff(relu, has_residual, group_size):
  *arrays, residual = draw()
  residual = residual if has_residual else None
  call = functools.partial(
    kernels.batch_norm, relu=relu, group_size=group_size, epsilon=EPSILON
  )
  g = np.random.default_rng(1).normal(size=arrays[0].shape).astype(np.float32)

  @functools.partial(jax.jit, static_argnums=0)
  def with_gradients(function, *arrays):
    y, pull = jax.vjp(function, *arrays)
    return y, pull(g)

  y, gradients = with_gradients(
    lambda *arrays: call(*arrays)[0], *arrays, residual
  )
  expected, plain_gradients = with_gradients(
    functools.partial(plain, relu=relu, group_size=group_size),
    *arrays,
    residual,
  )
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    gradients,
    plain_gradients,
  )


@pytest.mark.slow
def test_statistics_are_those_of_each_group():
  *arrays, _ = draw()
  _, mean, var = kernels.batch_norm(
    *arrays, relu=True, group_size=2, epsilon=EPSILON
  )
  groups = np.float64(arrays[0]).reshape(2, -1, 6)
  np.testing.assert_allclose(mean, groups.mean(1), rtol=1e-5)
  np.testing.assert_allclose(var, groups.var(1), rtol=1e-5)


@pytest.mark.slow
def test_bfloat16_is_rounded_once():
  x, scale, offset, residual = draw(jnp.bfloat16)
  call = functools.partial(
    kernels.batch_norm, relu=True, group_size=4, epsilon=EPSILON
  )
  y, *_ = call(x, scale, offset, residual)
  exact, *_ = call(
    x.astype(jnp.float32), scale, offset, residual.astype(jnp.float32)
  )
  assert y.dtype == jnp.bfloat16
  np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))
  factor, shift = jnp.float32([2, 0.3] * 3), jnp.float32([0.1] * 6)
  z = kernels.affine(x, factor, shift, residual, relu=True)
  expected = np.float32(x) * factor + shift + np.float32(residual)
  np.testing.assert_array_equal(z, np.maximum(expected, 0).astype(jnp.bfloat16))
