"""Activation and BatchNorm over groups, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax.errors import UserError
from convmixer_jax.models.batch_norm import ActivationBatchNorm

SHAPE = (8, 3, 5, 4)
COUNT = 3 * 5  # values of a channel in one image


@pytest.fixture
def x():
  rng = np.random.default_rng(0)
  scale, shift = rng.uniform(0.5, 3, 4), rng.normal(size=4)
  return (rng.normal(size=SHAPE) * scale + shift).astype(np.float32)


@pytest.fixture
def variables():
  rng = np.random.default_rng(1)
  return {
    'params': {
      'scale': jnp.asarray(rng.normal(size=4), jnp.float32),
      'bias': jnp.asarray(rng.normal(size=4), jnp.float32),
    },
    'batch_stats': {
      'mean': jnp.asarray(rng.normal(size=4), jnp.float32),
      'var': jnp.asarray(rng.uniform(0.5, 2, 4), jnp.float32),
    },
  }


def train(variables, x, group_size):
  y, updated = ActivationBatchNorm('relu', group_size).apply(
    variables, jnp.asarray(x), train=True, mutable=['batch_stats']
  )
  return y, updated['batch_stats']


def reference(variables, x, group_size):
  params, running = variables['params'], variables['batch_stats']
  scale, bias = np.float64(params['scale']), np.float64(params['bias'])
  outputs, means, variances = [], [], []
  activated = np.maximum(np.float64(x), 0)
  for group in np.split(activated, len(x) // group_size):
    mean, var = group.mean((0, 1, 2)), group.var((0, 1, 2))
    outputs.append((group - mean) / np.sqrt(var + 1e-5) * scale + bias)
    means.append(mean)
    variances.append(group.var((0, 1, 2), ddof=1))
  return np.concatenate(outputs), {
    'mean': 0.9 * np.float64(running['mean']) + 0.1 * np.mean(means, 0),
    'var': 0.9 * np.float64(running['var']) + 0.1 * np.mean(variances, 0),
  }


@pytest.mark.parametrize('group_size', [1, 2, 4, 8])
def test_each_group_is_normalised_by_its_own_statistics(
  x, variables, group_size
):
  y, stats = train(variables, x, group_size)
  expected_y, expected_stats = reference(variables, x, group_size)
  np.testing.assert_allclose(y, expected_y, rtol=1e-4, atol=1e-5)
  for name, expected in expected_stats.items():
    np.testing.assert_allclose(stats[name], expected, rtol=1e-5, err_msg=name)


def test_group_size_0_normalises_the_whole_batch(x, variables):
  y, stats = train(variables, x, 0)
  expected_y, expected_stats = train(variables, x, len(x))
  np.testing.assert_array_equal(y, expected_y)
  jax.tree.map(np.testing.assert_array_equal, stats, expected_stats)


def test_evaluation_uses_the_running_statistics(x, variables):
  y = ActivationBatchNorm('relu', 2).apply(
    variables, jnp.asarray(x), train=False
  )
  params, stats = variables['params'], variables['batch_stats']
  expected = np.maximum(x, 0) - stats['mean']
  expected = expected / np.sqrt(stats['var'] + 1e-5)
  expected = expected * params['scale'] + params['bias']
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_a_group_do_not_depend_on_another(x, variables):
  weights = np.random.default_rng(2).normal(size=SHAPE)

  def loss(x, params, group_size, weights):
    y, _ = train(variables | {'params': params}, x, group_size)
    return jnp.sum(y * weights)

  gradient = jax.grad(loss, (0, 1))
  dx, dparams = gradient(x, variables['params'], 4, weights)
  halves = [
    gradient(x[part], variables['params'], 0, weights[part])
    for part in (slice(4), slice(4, 8))
  ]
  expected = np.concatenate([half[0] for half in halves])
  np.testing.assert_allclose(dx, expected, rtol=1e-4, atol=1e-5)
  for name, value in dparams.items():
    total = sum(half[1][name] for half in halves)
    np.testing.assert_allclose(value, total, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_summed_in_float32(variables):
  # In bfloat16 a sum of ones stops growing at 256.
  x = jnp.ones((64, 8, 8, 4), jnp.bfloat16).at[::2].set(0.5)

  def loss(params):
    y, stats = train(variables | {'params': params}, x, 32)
    assert y.dtype == jnp.bfloat16
    return jnp.sum(y.astype(jnp.float32)), stats

  gradient, stats = jax.grad(loss, has_aux=True)(variables['params'])
  expected = 0.9 * variables['batch_stats']['mean'] + 0.1 * 0.75
  np.testing.assert_allclose(stats['mean'], expected, rtol=1e-6)
  assert gradient['bias'].dtype == stats['var'].dtype == jnp.float32
  np.testing.assert_array_equal(gradient['bias'], np.full(4, 64 * 8 * 8.0))


def test_refuses_groups_that_do_not_divide_the_batch(x, variables):
  with pytest.raises(UserError, match=r'bn_group_size = 3 .* 8 images'):
    train(variables, x, 3)


def test_one_value_per_channel_is_refused_in_training(variables, x):
  one = x[:, :1, :1]
  for images, group_size in ((one, 1), (one[:1], 0)):
    with pytest.raises(UserError, match='a single value per channel'):
      train(variables, images, group_size)
  train(variables, one, 2)
  evaluated = ActivationBatchNorm('relu', 1).apply(variables, one, train=False)
  assert evaluated.shape == one.shape
