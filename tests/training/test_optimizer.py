"""AdamW, weight decay and rates by part, against the formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convmixer_jax.training.optimizer import (
  create_optimizer,
  decay_mask,
)


@pytest.mark.parametrize('decay_all', [False, True])
@pytest.mark.parametrize('clip_norm', [0.0, 1.0])
def test_adamw_equals_pytorchs_formula(config, decay_all, clip_norm):
  """Against AdamW as PyTorch defines it, in float64."""
  config.decay_all, config.clip_norm, config.weight_decay = (
    decay_all,
    clip_norm,
    0.1,
  )
  config.adam_beta2, config.adam_epsilon = 0.99, 1e-3
  rng = np.random.default_rng(0)
  shapes = {'kernel': (3, 4), 'bias': (2, 4)}  # stacked biases have two axes
  params = {k: rng.normal(size=shape) for k, shape in shapes.items()}
  ours = {'layer': {k: jnp.float32(value) for k, value in params.items()}}
  optimizer = create_optimizer(config, lambda step: 0.1 / (step + 1))
  state = optimizer.init(ours)
  first = {k: np.zeros(shape) for k, shape in shapes.items()}
  second = {k: np.zeros(shape) for k, shape in shapes.items()}
  for step in range(1, 6):
    gradient = {k: rng.normal(size=shape) for k, shape in shapes.items()}
    updates, state = optimizer.update(
      {'layer': {k: jnp.float32(g) for k, g in gradient.items()}}, state, ours
    )
    ours = optax.apply_updates(ours, updates)

    lr = 0.1 / step
    norm = np.sqrt(sum(np.sum(g**2) for g in gradient.values()))
    scale = min(1.0, clip_norm / norm) if clip_norm else 1.0
    for k, g in gradient.items():
      g = g * scale
      first[k] = 0.9 * first[k] + 0.1 * g
      second[k] = 0.99 * second[k] + 0.01 * g**2
      if decay_all or k == 'kernel':
        params[k] = params[k] * (1 - lr * 0.1)
      denominator = np.sqrt(second[k] / (1 - 0.99**step)) + 1e-3
      params[k] = params[k] - lr * first[k] / (1 - 0.9**step) / denominator
  for k, value in params.items():
    np.testing.assert_allclose(ours['layer'][k], value, rtol=2e-5, atol=1e-6)


def test_weight_decay_applies_to_kernels_only():
  params = {'head': {'kernel': 0, 'bias': 0}, 'bn': {'scale': 0, 'bias': 0}}
  assert decay_mask(params) == {
    'head': {'kernel': True, 'bias': False},
    'bn': {'scale': False, 'bias': False},
  }


def test_backbone_has_its_own_learning_rate(config):
  config.clip_norm, config.weight_decay = 0.0, 0.1
  params = {
    'blocks': {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)},
    'head': {'kernel': jnp.ones((3, 2)), 'bias': jnp.ones(2)},
  }
  gradient = jax.tree.map(lambda x: 0.5 * x, params)

  def updates_of(scale, rate=0.1):
    config.backbone_lr_scale = scale
    optimizer = create_optimizer(config, lambda step: rate / (step + 1))
    state = optimizer.init(params)
    for _ in range(3):
      updates, state = optimizer.update(gradient, state, params)
    return updates

  whole, slower = updates_of(1.0), updates_of(0.25)
  for name, scale in {'head': 1.0, 'blocks': 0.25}.items():
    for kind, update in slower[name].items():
      np.testing.assert_allclose(update, scale * whole[name][kind], rtol=1e-6)
  frozen = updates_of(0.0)
  np.testing.assert_array_equal(frozen['head']['bias'], whole['head']['bias'])
  assert not any(np.any(update) for update in frozen['blocks'].values())


@pytest.mark.parametrize('clip_norm', [0.0, 1.0])
def test_state_without_backbone_lr_scale_is_plain_adamw(config, clip_norm):
  config.clip_norm = clip_norm
  params = {'head': {'kernel': jnp.ones((3, 2))}}
  state = create_optimizer(config, lambda step: 0.1).init(params)
  adamw = optax.adamw(lambda step: 0.1, mask=decay_mask)
  expected = adamw.init(params)
  if clip_norm:
    expected = (optax.EmptyState(), expected)
  assert jax.tree.structure(state) == jax.tree.structure(expected)
