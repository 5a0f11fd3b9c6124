"""A source, a network and an augmentation as a user may write them."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from convmixer_jax.data import own_source

CLASSES = ['dark', 'light']


class Squares:
  """Images that are dark or light, so that a few steps tell them apart."""

  class_names = CLASSES

  def __init__(self, size, image=None, label=None, seed=0):
    self._size, self._image, self._label = size, image, label
    self._seed = seed

  def __len__(self):
    return self._size

  def __getitem__(self, index):
    rng = np.random.default_rng([self._seed, index])
    label = index % 2
    image = rng.integers(0, 128, (8, 8, 3)) + 127 * label
    return {
      'image': image.astype(np.uint8) if self._image is None else self._image,
      'label': label if self._label is None else self._label,
    }


class Net(nn.Module):
  """A small network whose last layer is not called head."""

  num_classes: int
  width: int = 4
  activation: object = nn.relu

  @nn.compact
  def __call__(self, images, *, train):
    del train
    x = self.activation(nn.Conv(self.width, (3, 3))(images))
    return nn.Dense(self.num_classes)(jnp.mean(x, axis=(1, 2)))


def flip(image, rng):
  return image[:, ::-1] if rng.random() < 0.5 else image


def short(config):
  """Sets a run of a few steps on `Squares`."""
  config.batch_size, config.num_steps = 16, 6
  config.mixup.mixup_alpha = config.mixup.cutmix_alpha = 0.0
  config.augment.rand_augment.num_ops = 0
  config.checkpoint_every_steps, config.log_every_steps = 4, 2
  return config


def wrap(source, config, argument='train_source'):
  return own_source.OwnSource(source, argument, 'train', config.dataset)
