"""The recipes of published networks, and which parameters they decay."""

import architectures
import jax
import numpy as np
import pytest

from configs import imagenet
from convmixer_jax import models
from convmixer_jax.config import default_config, num_train_steps
from convmixer_jax.data.repeated import steps_per_epoch
from convmixer_jax.models import recipes
from convmixer_jax.training.optimizer import decay_mask
from convmixer_jax.training.schedules import create_schedule
from convmixer_jax.training.validate import validate

IMAGES = 1_281_167
BUFFERS = 'running_mean', 'running_var', 'num_batches_tracked'
NOT_DECAYED = 'pos_embed', 'cls_token', 'dist_token'  # of timm's networks


@pytest.mark.parametrize('name', architectures.NAMES)
def test_weight_decay_is_for_the_tensors_that_timm_decays(name):
  """Those of two and more axes, Affine's counting as one, but embeddings."""
  architecture = models.MODELS[name]
  if architecture.state_dict is None:
    pytest.skip('timm does not have it')
  _, variables = architectures.create(name)
  mask = decay_mask(variables['params'])
  params = jax.tree.map(
    lambda is_decayed, leaf: np.full_like(leaf, is_decayed),
    mask,
    variables['params'],
  )
  tensors = architecture.state_dict.to_timm({**variables, 'params': params})
  checked = set()
  for key, tensor in tensors.items():
    leaf = key.rpartition('.')[-1]
    if leaf in BUFFERS:
      continue
    axes = 1 if leaf in ('alpha', 'beta') else tensor.ndim
    expected = axes > 1 and leaf not in NOT_DECAYED
    assert np.all(tensor == expected), key
    checked.add(expected)
  assert checked == {True, False}


def config_with(recipe, network='vit'):
  config = default_config(models.model_config(network))
  config.dataset.image_size = 224
  recipe(config)
  validate(config)
  return config


@pytest.mark.parametrize(
  ('recipe', 'epochs', 'steps'),
  [
    (recipes.deit, 300, 1251),
    (recipes.resmlp, 400, 1251),
    (recipes.resnet_a1, 600, 625),
    (recipes.resnet_a2, 300, 625),
    (recipes.resnet_a3, 100, 625),
    (recipes.torchvision, 90, 5004),
    (recipes.convmixer, 150, 2001),
  ],
)
def test_recipes_have_the_published_length(recipe, epochs, steps):
  config = config_with(recipe)
  assert config.num_epochs == epochs
  assert steps_per_epoch(IMAGES, config) == steps


def rates(config):
  """Returns the learning rate of the first step of each epoch."""
  steps = steps_per_epoch(IMAGES, config)
  schedule = create_schedule(config, steps, num_train_steps(config, steps))
  return [float(schedule(epoch * steps)) for epoch in range(config.num_epochs)]


def test_deits_learning_rate_is_the_published_one():
  found = rates(config_with(recipes.deit))
  epochs = np.arange(300)
  expected = np.where(
    epochs < 5,
    1e-6 + (1e-3 - 1e-6) * epochs / 5,
    1e-5 + (1e-3 - 1e-5) * (1 + np.cos(np.pi * epochs / 300)) / 2,
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert max(found) < 1e-3  # the cosine has begun when the warm-up ends


def test_torchvisions_learning_rate_has_three_steps():
  found = rates(config_with(recipes.torchvision))
  np.testing.assert_allclose(found[::30], [0.1, 0.01, 0.001], rtol=1e-5)
  assert len(set(found)) == 3


def test_strikes_back_recipes_differ_as_published():
  a1, a2, a3 = (
    config_with(recipe)
    for recipe in (recipes.resnet_a1, recipes.resnet_a2, recipes.resnet_a3)
  )

  def values(*names):
    return [tuple(c.to_dict()[name] for name in names) for c in (a1, a2, a3)]

  assert values('learning_rate', 'weight_decay', 'label_smoothing') == [
    (5e-3, 0.01, 0.1),
    (5e-3, 0.02, 0.0),
    (8e-3, 0.02, 0.0),
  ]
  names = 'optimizer', 'loss', 'bce_threshold', 'batch_size', 'ema_decay'
  same = ('lamb', 'binary_cross_entropy', 0.2, 2048, 0.0)
  assert values(*names) == [same] * 3
  for config in (a1, a2, a3):
    assert (config.mixup.cutmix_alpha, config.erasing.probability) == (1.0, 0.0)
    assert config.augment.eval_crop_fraction == 0.95
  assert values('repeated_augmentation') == [(3,), (3,), (1,)]
  assert [c.model.drop_path for c in (a1, a2, a3)] == [0.05, 0.05, 0.0]
  assert [c.mixup.mixup_alpha for c in (a1, a2, a3)] == [0.2, 0.1, 0.1]
  sizes = [(c.dataset.image_size, c.augment.eval_image_size) for c in (a1, a3)]
  assert sizes == [(224, 0), (160, 224)]
  assert [c.augment.rand_augment.magnitude for c in (a1, a2, a3)] == [7, 7, 6]


@pytest.mark.parametrize(
  'variant', [name for name in imagenet.VARIANTS if name.startswith('resnet')]
)
@pytest.mark.parametrize('suffix', ['', *imagenet.RESNET_RECIPES])
def test_resnets_have_recipes_by_suffix(variant, suffix):
  config = imagenet.get_config(f'{variant}_{suffix}' if suffix else variant)
  validate(config)
  assert config.model.name == 'resnet'
  assert (
    config.num_epochs
    == {'': 150, 'a1': 600, 'a2': 300, 'a3': 100, 'tv': 90}[suffix]
  )
  # Both are of the images of one device.
  group = {'': 64, 'tv': 32}.get(suffix, 128)
  assert config.model.bn_group_size == group
  assert config.mixup.group_size == (0 if suffix == 'tv' else group)
  plain = imagenet.get_config(variant)
  assert config.model.depths == plain.model.depths
