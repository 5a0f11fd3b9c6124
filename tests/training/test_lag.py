"""The note on BatchNorm's running statistics early in a run."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import models
from convmixer_jax.models.batch_norm import statistics_momentum
from convmixer_jax.training.lag import describe_lag
from convmixer_jax.training.setup import set_up


class Classic(nn.Module):
  momentum: float

  @nn.compact
  def __call__(self, images, *, train):
    norm = nn.BatchNorm(not train, momentum=self.momentum)
    return nn.Dense(2)(norm(images).mean((1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize('scan', [False, True])
def test_momentum_is_that_of_the_update(scan):
  config = models.model_config('convmixer', width=4, depth=2, scan=scan)
  model = models.create_model(config, 3)
  images = jax.random.normal(jax.random.key(0), (8, 14, 14, 3)) + 5
  variables = model.init(jax.random.key(0), images, train=False)
  before = variables['batch_stats']
  ones = jax.tree.map(jnp.ones_like, before)
  zeros = jax.tree.map(jnp.zeros_like, before)
  after = [
    model.apply(
      {'params': variables['params'], 'batch_stats': stats},
      images,
      train=True,
      mutable=['batch_stats'],
    )[1]['batch_stats']
    for stats in (ones, zeros)
  ]
  momentum = statistics_momentum(model, 14)
  for one, zero in zip(*map(jax.tree.leaves, after), strict=True):
    np.testing.assert_allclose(one - zero, momentum, atol=1e-4)


def test_momentum_of_a_network_of_ones_own():
  assert statistics_momentum(Classic(0.75), 4) == 0.75
  config = models.model_config('vit', width=8, depth=1, heads=2)
  assert statistics_momentum(models.create_model(config, 3), 8) is None


def test_note_ends_when_the_initial_values_hardly_count(config, tmp_path):
  setup = set_up(config, str(tmp_path / 'run'))
  note = describe_lag(setup, 11)
  assert (
    'after 11 updates' in note
    and ' 31 % ' in note
    and 'before about step 44' in note
  )
  assert describe_lag(setup, 43)
  for step in (44, 100, 100_000):
    assert describe_lag(setup, step) is None
  setup.config.init_from = 'weights.safetensors'  # whose statistics it has
  assert describe_lag(setup, 11) is None


def test_network_without_running_statistics_has_no_note(config, tmp_path):
  config.model = models.model_config('vit', width=8, depth=1, heads=2)
  assert describe_lag(set_up(config, str(tmp_path / 'run')), 1) is None
