"""The pointwise product, against NumPy and autodiff in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import ops


@pytest.fixture
def operands():
  rng = np.random.default_rng(0)
  shapes = (2, 3, 5, 7), (7, 4)
  return [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]


def plain(x, kernel):
  return jnp.einsum('...i,io->...o', x, kernel)


def test_forward_and_gradients(operands):
  weights = np.random.default_rng(1).normal(size=(2, 3, 5, 4))

  def scalar(function):
    return lambda *args: jnp.sum(function(*args) * weights)

  np.testing.assert_allclose(ops.linear(*operands), plain(*operands), 1e-5)
  ours = jax.grad(scalar(ops.linear), (0, 1))(*operands)
  theirs = jax.grad(scalar(plain), (0, 1))(*operands)
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_bfloat16_sums_and_reduces_in_float32():
  x = jnp.ones((4096, 8), jnp.bfloat16)
  kernel = jnp.ones((8, 2))

  def loss(x, kernel):
    return jnp.sum(ops.linear(x, kernel).astype(jnp.float32))

  dx, dkernel = jax.grad(loss, (0, 1))(x, kernel)
  assert dx.dtype == jnp.bfloat16
  assert dkernel.dtype == jnp.float32
  # Summed in bfloat16, 4,096 ones stop growing at 256.
  np.testing.assert_array_equal(dkernel, np.full((8, 2), 4096.0))
