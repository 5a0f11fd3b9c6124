"""Each optimizer against PyTorch's and timm's, and what comes with each."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convmixer_jax import config as config_lib
from convmixer_jax.errors import UserError
from convmixer_jax.models.architecture import Architecture
from convmixer_jax.models.convmixer import CONVMIXER
from convmixer_jax.training.optimizer import create_optimizer

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'optimizers.npz'
NETWORK = Architecture(
  CONVMIXER.module, {}, stacked=('blocks',), before_blocks=()
)
# As in make_optimizer_fixtures.py.
ADAM = {'adam_beta1': 0.8, 'adam_beta2': 0.95, 'adam_epsilon': 1e-3}
OPTIONS = {
  'adamw': ADAM,
  'lamb': ADAM,
  'lamb_default': {
    'adam_beta1': 0.9,
    'adam_beta2': 0.999,
    'adam_epsilon': 1e-6,
    'clip_norm': 1.0,
  },
  'sgd': {'momentum': 0.8},
  'sgd_plain': {'momentum': 0.0},
  'sgd_nesterov': {'momentum': 0.8, 'nesterov': True},
  'lion': {'lion_beta1': 0.85, 'lion_beta2': 0.97},
}


def read(prefix):
  """Returns the arrays of the fixture with a prefix, as a tree of modules."""
  tree = {}
  with np.load(FIXTURE) as arrays:
    for name in arrays.files:
      if name.startswith(f'{prefix}/'):
        module, leaf = name.removeprefix(f'{prefix}/').split('.')
        tree.setdefault(module, {})[leaf] = jnp.asarray(arrays[name])
  return tree


def train(config, schedule=lambda step: 0.05 / (step + 1)):
  """Returns the parameters after each update, along a first axis."""
  config_lib.validate(config)
  params, gradients = read('params'), read('gradients')
  optimizer = create_optimizer(config, schedule, NETWORK)
  state, found = optimizer.init(params), []
  for step in range(5):
    gradient = jax.tree.map(lambda values, step=step: values[step], gradients)
    updates, state = optimizer.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    found.append(params)
  return jax.tree.map(lambda *values: jnp.stack(values), *found)


def set_optimizer(config, case):
  config.optimizer = case.partition('_')[0]
  config.weight_decay, config.clip_norm = 0.1, 0.0
  config.update(OPTIONS[case])


@pytest.mark.parametrize('case', OPTIONS)
def test_each_update_equals_that_of_pytorch_or_timm(config, case):
  set_optimizer(config, case)
  trained = train(config)
  assert jax.tree.structure(trained) == jax.tree.structure(read(case))
  jax.tree.map(
    lambda ours, theirs: np.testing.assert_allclose(
      ours, theirs, rtol=1e-5, atol=1e-6
    ),
    trained,
    read(case),
  )


@pytest.mark.parametrize('decay_all', [False, True])
def test_lamb_without_weight_decay_scales_nothing_as_timms(config, decay_all):
  set_optimizer(config, 'lamb')
  config.weight_decay, config.decay_all = 0.0, decay_all
  ours = train(config)
  config.optimizer = 'adamw'
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
    ours,
    train(config),
  )


@pytest.mark.parametrize('case', ['adamw', 'sgd', 'lamb', 'lion'])
def test_layer_decay_and_backbone_scale_multiply_the_update(config, case):
  """After one step from the same state, updates differ by the factors alone."""
  set_optimizer(config, case)
  params, gradient = (
    read('params'),
    jax.tree.map(lambda g: g[0], read('gradients')),
  )

  def updates(**options):
    config.update({'layer_lr_decay': 1.0, 'backbone_lr_scale': 1.0} | options)
    optimizer = create_optimizer(config, lambda step: 0.05, NETWORK)
    return optimizer.update(gradient, optimizer.init(params), params)[0]

  whole = updates()
  both = updates(layer_lr_decay=0.5, backbone_lr_scale=0.1)
  for leaf in ('kernel', 'bias'):
    for block, factor in enumerate([0.25 * 0.1, 0.5 * 0.1]):
      np.testing.assert_allclose(
        both['blocks'][leaf][block],
        factor * whole['blocks'][leaf][block],
        rtol=1e-5,
      )
    np.testing.assert_array_equal(both['head'][leaf], whole['head'][leaf])
  frozen = updates(backbone_lr_scale=0.0)
  assert not any(np.any(update) for update in frozen['blocks'].values())
  np.testing.assert_array_equal(frozen['head']['bias'], whole['head']['bias'])


@pytest.mark.parametrize('case', ['adamw', 'sgd', 'lamb', 'lion'])
def test_clipping_comes_first(config, case):
  set_optimizer(config, case)
  config.clip_norm = 0.5
  params, gradient = (
    read('params'),
    jax.tree.map(lambda g: g[0], read('gradients')),
  )
  norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(gradient)))
  assert norm > 0.5

  def update(gradient):
    optimizer = create_optimizer(config, lambda step: 0.05, NETWORK)
    return optimizer.update(gradient, optimizer.init(params), params)[0]

  clipped = update(gradient)
  config.clip_norm = 0.0
  by_hand = update(jax.tree.map(lambda g: g * (0.5 / norm), gradient))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    clipped,
    by_hand,
  )


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'momentum': 0.5}, "read by config.optimizer = 'adamw'.*choose 'sgd'"),
    ({'optimizer': 'sgd', 'lion_beta1': 0.5}, 'leave it at 0.9'),
    (
      {'optimizer': 'sgd', 'nesterov': True, 'momentum': 0.0},
      'needs config.momentum',
    ),
    ({'optimizer': 'adam'}, 'not one of adamw, sgd, lamb, lion'),
    ({'layer_lr_decay': 0.0}, 'above 0 and at most 1'),
    ({'layer_lr_decay': 0.5, 'backbone_lr_scale': 0.0}, 'frozen'),
  ],
)
def test_options_without_effect_are_refused(config, options, message):
  config.update(options)
  with pytest.raises(UserError, match=message):
    config_lib.validate(config)


def test_options_of_adamw_recipes_are_unread_by_sgd(config):
  config.optimizer, config.adam_epsilon = 'sgd', 1e-8
  config_lib.validate(config)
  assert config_lib.unread_options(config) == ['adam_epsilon']
  config.optimizer = 'lamb'
  assert config_lib.unread_options(config) == []
