"""Exact GELU, against the standard library's erf in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax import kernels

POINTS = np.concatenate([np.linspace(-12, 12, 2401), [0.0, 1e-30, 50.0, -50.0]])


def distribution(x):
  return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def density(x):
  return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def test_forward_equals_reference():
  expected = [x * distribution(x) for x in POINTS]
  np.testing.assert_allclose(
    kernels.gelu(jnp.float32(POINTS)), expected, rtol=2e-6, atol=1.5e-6
  )


def test_gradient_equals_reference():
  expected = [distribution(x) + x * density(x) for x in POINTS]
  slopes = jax.vmap(jax.grad(kernels.gelu))(jnp.float32(POINTS))
  np.testing.assert_allclose(slopes, expected, rtol=2e-6, atol=1.5e-6)


def test_bfloat16_is_the_rounded_float32():
  x = jnp.bfloat16(POINTS)
  wide = x.astype(jnp.float32)
  np.testing.assert_array_equal(
    kernels.gelu(x), kernels.gelu(wide).astype(x.dtype)
  )
  _, pull = jax.vjp(kernels.gelu, x)
  _, pull_wide = jax.vjp(kernels.gelu, wide)
  (slope,), (slope_wide,) = (
    pull(jnp.ones_like(x)),
    pull_wide(jnp.ones_like(wide)),
  )
  np.testing.assert_array_equal(slope, slope_wide.astype(x.dtype))
