"""Networks that are given as objects."""

import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from own_objects import Net

import convmixer_jax
from convmixer_jax.errors import UserError
from convmixer_jax.models import ConvMixer, own_modules
from convmixer_jax.models.from_object import config_of_object


def test_network_is_named_by_its_class_and_attributes():
  def name(net):
    return own_modules.register(net, (8, 8, 3))

  assert name(Net(2)) == ('object:Net(num_classes=2, width=4, activation=relu)')
  assert own_modules.find(name(Net(2))).head == 'Dense_0'
  assert name(convmixer_jax.named(Net(2), 'mine')) == 'object:mine'
  with pytest.raises(UserError, match="'activation' whose value cannot be rec"):
    name(Net(2, activation=lambda x: x))


@pytest.mark.parametrize(
  ('value', 'expected'),
  [
    (nn.LayerNorm, 'LayerNorm'),
    (nn.Dropout, 'Dropout'),
    (functools.partial(nn.GroupNorm, 4), 'GroupNorm(4){}'),
    (jnp.bfloat16, 'bfloat16'),
    (np.float32, 'float32'),
  ],
)
def test_class_as_attribute_of_a_network_is_named(value, expected):
  class Small(nn.Module):
    num_classes: int
    norm: object

    @nn.compact
    def __call__(self, images, *, train):
      del train
      return nn.Dense(self.num_classes)(images.mean(axis=(1, 2)))

  name = own_modules.register(Small(2, value), (8, 8, 3))
  assert name == f'object:Small(num_classes=2, norm={expected})'


def test_network_of_the_package_becomes_its_name_and_fields():
  net = ConvMixer(width=8, depth=1, patch_size=2, kernel_size=3, num_classes=2)
  model = config_of_object(net, 'float32', (8, 8, 3))
  assert model.name == 'convmixer' and model.width == 8
  with pytest.raises(UserError, match=r"dtype float32, and config\.dtype = 'b"):
    config_of_object(net, 'bfloat16', (8, 8, 3))


def test_wrong_networks_are_refused():
  class WithoutClasses(nn.Module):
    def __call__(self, images, *, train):
      return images

  class WithoutTrain(nn.Module):
    num_classes: int = 2

    def __call__(self, images):
      return images

  class Failing(Net):
    def __call__(self, images, *, train):
      raise ValueError('of 7')

  for net, message in (
    (WithoutClasses(), 'has no attribute num_classes'),
    (WithoutTrain(), 'has no argument train'),
    (Failing(2), r'fails in init with images of shape .*ValueError: of 7'),
  ):
    with pytest.raises(UserError, match=message):
      own_modules.register(net, (8, 8, 3))
