"""The factors of the layers, against timm's groups of parameters."""

import pathlib

import jax
import numpy as np
import pytest

from convmixer_jax.errors import UserError
from convmixer_jax.models import MODELS
from convmixer_jax.models.architecture import Architecture
from convmixer_jax.training.layer_decay import layer_scales

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'optimizers.npz'


@pytest.mark.parametrize(
  'name', [name for name, each in MODELS.items() if each.state_dict]
)
def test_factors_equal_those_of_timm(name):
  """The fixture has timm's tensors, filled with their factors."""
  architecture = MODELS[name]
  prefix = f'layer_decay/{name}/'
  with np.load(FIXTURE) as arrays:
    tensors = {
      key.removeprefix(prefix): arrays[key]
      for key in arrays.files
      if key.startswith(prefix)
    }
  expected = architecture.state_dict.from_timm(tensors)['params']
  scales = layer_scales(architecture, expected, 0.7)
  assert scales.keys() == expected.keys()
  assert (3,) in {scale.shape for scale in scales.values()}
  for module, tree in expected.items():
    for leaf in jax.tree.leaves(tree):
      scale = scales[module]
      scale = scale.reshape(scale.shape + (1,) * (leaf.ndim - scale.ndim))
      np.testing.assert_allclose(
        np.broadcast_to(scale, leaf.shape), leaf, rtol=1e-6
      )


def test_several_stacks_are_counted_one_after_the_other():
  class Network:
    pass

  architecture = Architecture(
    Network, {}, stacked=('low', 'high'), before_blocks=('patches',)
  )
  params = {
    'head': {'kernel': np.zeros((4, 2))},
    'high': {'kernel': np.zeros((1, 4))},
    'low': {'kernel': np.zeros((2, 4))},
    'norm': {'scale': np.zeros(4)},
    'patches': {'kernel': np.zeros((3, 4))},
  }
  scales = layer_scales(architecture, params, 0.5)
  assert {name: scale.tolist() for name, scale in scales.items()} == {
    'patches': 0.0625,
    'low': [0.125, 0.25],
    'high': [0.5],
    'norm': 0.5,
    'head': 1.0,
  }


@pytest.mark.parametrize(
  'parts', [{}, {'stacked': ('blocks',)}, {'before_blocks': ('patches',)}]
)
def test_networks_without_an_order_are_refused(parts):
  class Network:
    pass

  with pytest.raises(UserError, match='Network names none; leave it at 1'):
    layer_scales(Architecture(Network, {}, **parts), {'head': {}}, 0.5)
