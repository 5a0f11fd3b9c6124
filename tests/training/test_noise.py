"""The noise of random erasing: normal, independent, and the same everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from convmixer_jax.training import noise

SHAPE = (16, 112, 112, 3)


@pytest.fixture(scope='module')
def values():
  draw = jax.jit(noise.normal_noise, static_argnums=1)
  return np.asarray(draw(jax.random.key(0), SHAPE), np.float64)


def test_noise_is_normal(values):
  assert stats.kstest(values.ravel(), stats.norm.cdf).pvalue > 1e-3
  count = values.size
  assert abs(values.mean()) < 4 / np.sqrt(count)
  assert abs(values.var() - 1) < 4 * np.sqrt(2 / count)
  assert abs(np.mean(values**4) - 3) < 4 * np.sqrt(96 / count)
  assert 4 < np.abs(values).max() < 6


def test_noise_of_each_image_is_normal(values):
  pvalues = [stats.kstest(v.ravel(), stats.norm.cdf).pvalue for v in values]
  assert stats.kstest(pvalues, stats.uniform.cdf).pvalue > 1e-3


@pytest.mark.parametrize('axis', range(4))
@pytest.mark.parametrize('transform', [lambda v: v, np.square])
def test_neighbours_are_independent(values, axis, transform):
  for distance in (1, 2, 8):
    if distance < SHAPE[axis]:
      ahead = np.take(values, range(distance, SHAPE[axis]), axis)
      behind = np.take(values, range(SHAPE[axis] - distance), axis)
      correlation = stats.pearsonr(
        transform(ahead).ravel(), transform(behind).ravel()
      )
      assert correlation.pvalue > 1e-3


def test_another_key_draws_independent_numbers(values):
  others = noise.normal_noise(jax.random.key(1), SHAPE)
  correlation = stats.pearsonr(values.ravel(), np.asarray(others).ravel())
  assert correlation.pvalue > 1e-3


def test_quantile_equals_scipys():
  odd = np.r_[np.arange(1, 2**23, 997), 2**23 - 1]
  u = np.concatenate([-odd, odd]) / 2**23
  expected = stats.norm.ppf((1 + u) / 2)
  z = np.asarray(noise._normal_quantile(jnp.asarray(u, jnp.float32)))
  assert np.abs(stats.norm.cdf(z) - stats.norm.cdf(expected)).max() < 2e-5
  assert np.abs(z - expected).max() < 5e-3
