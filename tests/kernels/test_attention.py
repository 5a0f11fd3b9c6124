"""Attention, against its definition in float64 and automatic gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from convmixer_jax import kernels

SHAPE = (2, 3, 7, 4)


@pytest.fixture(scope='module')
def operands():
  rng = np.random.default_rng(0)
  return [np.float32(3 * rng.normal(size=SHAPE)) for _ in range(4)]


def reference(q, k, v):
  q, k, v = (np.float64(x) for x in (q, k, v))
  scores = np.einsum('bhnd,bhmd->bhnm', q, k) / np.sqrt(q.shape[-1])
  return np.einsum('bhnm,bhmd->bhnd', scipy.special.softmax(scores, -1), v)


def by_jax(q, k, v):
  """`jax.nn.dot_product_attention`, which has heads after tokens."""
  q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
  return jax.nn.dot_product_attention(q, k, v).swapaxes(1, 2)


def test_result_equals_definition(operands):
  q, k, v, _ = operands
  np.testing.assert_allclose(
    kernels.attention(q, k, v), reference(q, k, v), rtol=2e-6, atol=2e-6
  )


def test_scores_too_large_for_exp_are_no_problem(operands):
  q, k, v, _ = operands
  np.testing.assert_allclose(
    kernels.attention(100 * q, k, v), reference(100 * q, k, v), atol=2e-4
  )


def test_gradients_equal_differences_of_the_definition(operands):
  *inputs, g = operands
  _, pull = jax.vjp(kernels.attention, *inputs)
  for number, gradient in enumerate(pull(g)):
    rng = np.random.default_rng(number)
    step = 1e-5 * rng.normal(size=SHAPE)
    ends = []
    for sign in (1, -1):
      moved = [np.float64(x) for x in inputs]
      moved[number] = moved[number] + sign * step
      ends.append(np.sum(np.float64(g) * reference(*moved)))
    expected = np.sum(np.float64(gradient) * step)
    assert (ends[0] - ends[1]) / 2 == pytest.approx(expected, rel=1e-4)


def test_gradients_equal_automatic_ones(operands):
  *inputs, g = operands
  ours, theirs = (
    jax.vjp(function, *inputs)[1](g) for function in (kernels.attention, by_jax)
  )
  for gradient, expected in zip(ours, theirs, strict=True):
    # Sums of terms that cancel: some are near 0, the largest about 20.
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=5e-5)


def test_bfloat16_is_near_float32(operands):
  *inputs, g = (jnp.bfloat16(x) for x in operands)
  wide = [x.astype(jnp.float32) for x in inputs]
  y, pull = jax.vjp(kernels.attention, *inputs)
  y_wide, pull_wide = jax.vjp(kernels.attention, *wide)
  results = [y, *pull(g)]
  expected = [y_wide, *pull_wide(g.astype(jnp.float32))]
  for result, near in zip(results, expected, strict=True):
    assert result.dtype == jnp.bfloat16
    error = jnp.linalg.norm(result.astype(jnp.float32) - near)
    assert error < 0.02 * jnp.linalg.norm(near)
