"""Exact GELU, against the standard library's erf in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convmixer_jax import kernels
from convmixer_jax.kernels.gelu import gelu_for_bfloat16

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


def test_form_for_gpus_is_exact_within_the_rounding_of_bfloat16(monkeypatch):
  monkeypatch.setattr(
    lax, 'platform_dependent', lambda x, cuda, default: cuda(x)
  )
  x = np.concatenate([POINTS, [1e30, -1e30]])
  expected = np.array([v * distribution(v) for v in x])
  found = np.float64(gelu_for_bfloat16(jnp.float32(x)))
  np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1.3e-4)
  # Half a unit in the last place of bfloat16, where it is not very small.
  is_large = np.abs(expected) > 0.05
  error = np.abs(found - expected)[is_large]
  assert (error <= 2.0**-9 * np.abs(expected[is_large])).all()
  assert np.isnan(gelu_for_bfloat16(jnp.float32(np.nan)))


def test_form_for_bfloat16_has_the_bits_of_gelu_elsewhere():
  x = jnp.float32(POINTS)
  np.testing.assert_array_equal(gelu_for_bfloat16(x), kernels.gelu(x))
