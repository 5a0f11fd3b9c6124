"""The features of each layer, against timm's (fixtures/features.npz)."""

from functools import partial

import feature_fixture
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax.errors import UserError
from convmixer_jax.models import ConvMixer
from convmixer_jax.models import features as features_lib

NAMES = ['stem', *(f'block{n}' for n in range(1, 11)), 'last']


def apply(model, variables, images, layers='all'):
  function = partial(features_lib.apply_with_features, model, layers=layers)
  return jax.jit(function)(variables, images)


@pytest.mark.parametrize('case', feature_fixture.CASES)
def test_features_of_each_layer_equal_timm(case):
  timm = feature_fixture.expected(case)
  model, variables, images = feature_fixture.network(case)
  features = apply(model, variables, images)
  blocks = [f'block{n + 1}' for n in range(model.depth)]
  assert list(features.names) == ['stem', *blocks, 'last']
  close = partial(np.testing.assert_allclose, rtol=0, atol=4e-6)
  for name in ['stem', *blocks]:
    layer = features.layers[name]
    close(layer.grid, timm[f'grid/{name}'])
    close(layer.pooled, timm[f'grid/{name}'].mean(axis=(1, 2)))
  for name in blocks:
    close(features.layers[name].grid, timm[f'intermediate/{name}'])
  close(features.grid, timm['forward_features'])
  close(features.pooled, timm['pooled'])
  close(features.head_input, timm['pooled'])
  close(features.logits, timm['logits'])
  for name, layer in features.layers.items():
    expected = timm.get(f'class_token/{name}')
    assert (layer.class_token is None) == (expected is None)
    if expected is not None:
      close(layer.class_token, expected)


@pytest.mark.slow
@pytest.mark.parametrize('case', ['relu_k4', 'vit_40x24'])
def test_loop_over_blocks_has_the_same_features(case):
  unrolled = apply(*feature_fixture.network(case))
  looped = apply(*feature_fixture.network(case, scan=True, remat=True))
  assert looped.names == unrolled.names
  jax.tree.map(
    partial(np.testing.assert_allclose, rtol=0, atol=4e-6), looped, unrolled
  )


def test_names_stay_in_order_where_jax_sorts_them():
  model = ConvMixer(4, 10, patch_size=1, kernel_size=1, num_classes=2)
  images = jnp.zeros((1, 2, 2, 3))
  variables = jax.eval_shape(
    lambda: model.init(jax.random.key(0), images, train=False)
  )
  function = partial(features_lib.apply_with_features, model, layers='all')
  shapes = jax.eval_shape(function, variables, images)
  assert list(shapes.names) == NAMES
  assert shapes.grid is shapes.layers['last'].grid


@pytest.mark.parametrize(
  ('layers', 'expected'),
  [
    (None, ['last']),
    ('all', NAMES),
    ('block3', ['block3']),
    ('3', ['block3']),
    (0, ['stem']),
    (-1, ['last']),
    (-2, ['block10']),
    (('last', 'stem', 10, 'block10'), ['stem', 'block10', 'last']),
  ],
)
def test_layers_are_chosen_by_name_and_number(layers, expected):
  assert features_lib.select_layers(layers, NAMES) == expected


@pytest.mark.parametrize(
  ('layers', 'message'),
  [
    ('blok3', "'blok3'; there are stem, block1 to block10, last; did you mean"),
    (12, 'there is no layer 12; there are stem, block1 to block10, last$'),
    ('-13', 'there is no layer -13'),
    ((), 'no layer is given; there are stem'),
    (1.5, 'there is no layer 1.5'),
  ],
)
def test_unknown_layer_is_refused_with_those_there_are(layers, message):
  with pytest.raises(UserError, match=message):
    features_lib.select_layers(layers, NAMES)


class Own(nn.Module):
  """Sows what `sown` names: its input, under each name."""

  sown: tuple[str, ...]
  stacks: bool = False

  @nn.compact
  def __call__(self, images, *, train):
    array = jnp.stack([images, 2 * images]) if self.stacks else images
    for name in self.sown:
      self.sow('intermediates', name, array)
    pooled = images.mean(axis=(1, 2))
    if 'features' not in self.sown:
      self.sow('intermediates', 'features', pooled)
    return nn.Dense(2, name='head')(pooled)


def own(*sown, stacks=False, layers='all'):
  model = Own(sown, stacks)
  images = np.arange(24, dtype=np.float32).reshape(1, 2, 4, 3)
  variables = model.init(jax.random.key(0), images, train=False)
  return images, apply(model, variables, images, layers)


def test_own_network_has_the_layers_that_it_sows():
  images, features = own('stage1', 'stage2')
  assert features.names == ('stage1', 'stage2', 'last')
  np.testing.assert_array_equal(features.layers['stage1'].grid, images)
  _, features = own('stages', stacks=True)
  assert features.names == ('stages/1', 'stages/2', 'last')
  np.testing.assert_array_equal(features.grid, 2 * images)


def test_own_network_without_a_grid_has_the_input_of_its_head():
  images, features = own(layers=None)
  np.testing.assert_array_equal(features.pooled, images.mean(axis=(1, 2)))
  with pytest.raises(UserError, match=r"sows no grid .* sow one as 'last'"):
    _ = features.grid
  with pytest.raises(UserError, match='sows no grid'):
    own(layers='stem')
