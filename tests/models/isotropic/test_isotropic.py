"""The layers of the isotropic network, each against its definition."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import draw_variables, images_of, normalized
from scipy import special

from convmixer_jax import models
from convmixer_jax.errors import UserError
from convmixer_jax.models.isotropic.fields import (
  STEMS,
  TOKEN_MIXERS,
  settings_of,
)
from convmixer_jax.models.isotropic.norms import normalize
from convmixer_jax.models.isotropic.token_mixers import average_pool

NORMS = ('batch', 'layer', 'group', 'affine', 'none')


def build(size=8, **fields):
  """Returns a network and random variables for it."""
  fields = {'width': 8, 'depth': 2, 'kernel_size': 3, 'heads': 2} | fields
  config = models.model_config('isotropic', **fields)
  model = models.create_model(config, 10, image_size=size)
  return model, draw_variables(shapes_of(size, **fields))


def shapes_of(size=32, **fields):
  config = models.model_config('isotropic', **fields)
  model = models.create_model(config, 10)
  return jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, size, size, 3)), train=False
    )
  )


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


# h channels, k the kernel's side, N tokens: 8 x 8.
H, K, N = 24, 5, 64
PRE_NORM = {
  'channel_mixer': 'mlp',
  'norm': 'layer',
  'norm_place': 'before',
  'residual': 'both',
  'token_activation': False,
}
POOLFORMER = PRE_NORM | {'norm': 'group', 'layer_scale': 1e-5}


@pytest.mark.parametrize(
  ('fields', 'parameters'),
  [
    ({}, H**2 + H * (K**2 + 6)),
    (PRE_NORM | {'token_mixer': 'attention'}, 12 * H**2 + 13 * H),
    (
      PRE_NORM | {'token_mixer': 'mlp', 'token_hidden': H // 2},
      H * N + H // 2 + N + 8 * H**2 + 9 * H,
    ),
    (
      PRE_NORM
      | {'token_mixer': 'linear', 'norm': 'affine', 'layer_scale': 1.0},
      N**2 + N + 8 * H**2 + 11 * H,
    ),
    (POOLFORMER | {'token_mixer': 'pool'}, 8 * H**2 + 11 * H),
    (POOLFORMER | {'token_mixer': 'none'}, 8 * H**2 + 11 * H),
    (POOLFORMER | {'token_mixer': 'random'}, 8 * H**2 + 11 * H),
    ({'norm': 'none', 'token_mixer': 'none'}, H**2 + H),
  ],
)
def test_block_has_as_many_parameters_as_the_formula(fields, parameters):
  shapes = shapes_of(
    width=H, depth=3, patch_size=4, kernel_size=K, heads=2, **fields
  )
  assert count(shapes['params']['blocks']) == 3 * parameters
  frozen = shapes.get('batch_stats', {}).get('blocks', {})
  is_random = fields.get('token_mixer') == 'random'
  assert count(frozen.get('token_mixer', {})) == 3 * N**2 * is_random


@pytest.mark.parametrize(
  ('stem', 'patch_size', 'parameters'),
  [
    ('patches', 4, 48 * 16 + 16),
    ('overlapping', 4, 3 * 49 * 16 + 16),
    ('overlapping', 2, 27 * 16 + 16),
    # 3 -> 8 -> 16 channels, with a BatchNorm between.
    ('convolutions', 4, 27 * 8 + 8 + 16 + 72 * 16 + 16),
    ('convolutions', 8, 27 * 4 + 4 + 8 + 36 * 8 + 8 + 16 + 72 * 16 + 16),
    ('pixels', 1, 3 * 16 + 16),
  ],
)
def test_stems_have_the_same_grid(stem, patch_size, parameters):
  fields = {'width': 16, 'stem': stem, 'patch_size': patch_size, 'depth': 1}
  shapes = shapes_of(token_mixer='linear', stem_activation=False, **fields)
  kernel = shapes['params']['blocks']['token_mixer']['kernel']
  assert kernel.shape == (1, (32 // patch_size) ** 2, (32 // patch_size) ** 2)
  stems = {
    k: v for k, v in shapes['params'].items() if k[:4] in ('patc', 'stem')
  }
  assert count(stems) == parameters


@pytest.mark.slow
def test_overlapping_patches_equal_a_correlation_of_padded_images():
  fields = {'stem': 'overlapping', 'patch_size': 2, 'stem_activation': False}
  model, variables = build(**fields, depth=1)
  images = normalized(images_of(count=2))
  _, state = model.apply(
    variables, images, train=False, mutable=['intermediates']
  )
  (found,) = state['intermediates']['stem']
  embedding = variables['params']['patch_embedding']
  kernel, bias = np.asarray(embedding['kernel']), np.asarray(embedding['bias'])
  padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
  expected = np.empty((2, 4, 4, 8))
  for i, j in itertools.product(range(4), repeat=2):
    window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
    expected[:, i, j] = np.einsum('bxyc,xyco->bo', window, kernel) + bias
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('size', [2, 3, 5, 9])
def test_average_pool_does_not_count_what_is_outside(size):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 4, 6, 3)).astype(np.float32)
  before, after = (size - 1) // 2, size // 2
  expected = np.empty_like(x)
  for i, j in itertools.product(range(4), range(6)):
    rows = slice(max(i - before, 0), i + after + 1)
    columns = slice(max(j - before, 0), j + after + 1)
    expected[:, i, j] = x[:, rows, columns].mean((1, 2))
  np.testing.assert_allclose(average_pool(x, size), expected, atol=1e-6)


def _normalized(norm, x, scale, bias):
  """Returns a norm's definition in float64."""
  axes = {'batch': (0, 1, 2), 'layer': (3,), 'group': (1, 2, 3)}
  if norm == 'none':
    return x
  if norm in axes:
    epsilon = 1e-6 if norm == 'layer' else 1e-5
    mean = x.mean(axes[norm], keepdims=True)
    x = (x - mean) / np.sqrt(x.var(axes[norm], keepdims=True) + epsilon)
  return x * scale + bias


@pytest.mark.slow
@pytest.mark.parametrize(
  ('norm', 'activation'),
  [('batch', None), *((norm, 'gelu') for norm in NORMS)],
)
def test_norms_equal_their_definitions(norm, activation):
  rng = np.random.default_rng(0)
  x, residual = rng.normal(size=(2, 4, 3, 3, 6)) * 2 + 1
  added, scale, bias = rng.normal(size=(3, 6))
  settings = settings_of(build()[0])

  class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, added, residual):
      return normalize(
        settings,
        x,
        added,
        residual,
        activation=activation,
        norm=norm,
        name='norm',
        train=True,
      )

  arrays = [array.astype(np.float32) for array in (x, added, residual)]
  variables = (
    {}
    if norm == 'none'
    else {
      'params': {'norm': {'scale': scale, 'bias': bias}},
      'batch_stats': {'norm': {'mean': np.zeros(6), 'var': np.ones(6)}},
    }
  )
  variables = jax.tree.map(np.float32, variables)
  y, _ = Normalized().apply(variables, *arrays, mutable=['batch_stats'])
  shifted = x + added
  if activation:
    shifted = shifted * special.ndtr(shifted)
  expected = _normalized(norm, shifted, scale, bias) + residual
  np.testing.assert_allclose(y, expected, atol=2e-5)


@pytest.mark.slow
def test_random_map_is_stochastic_and_is_not_trained():
  model, _ = build(token_mixer='random')
  images = normalized(images_of())
  init = functools.partial(model.init, train=False)
  variables = jax.jit(init)(jax.random.key(0), images)
  rows = variables['batch_stats']['blocks']['token_mixer']['map']
  assert (
    rows.shape == (2, 16, 16)
    and 'token_mixer' not in variables['params']['blocks']
  )
  np.testing.assert_allclose(rows.sum(-1), 1, rtol=1e-5)
  assert (rows.max(-1) / rows.min(-1)).max() < np.e
  assert np.abs(rows[0] - rows[1]).max() > 0.01  # another in each block

  def loss(variables):
    logits, updated = model.apply(
      variables, images, train=True, mutable=['batch_stats']
    )
    return (logits**2).sum(), updated

  gradient, updated = jax.jit(jax.grad(loss, has_aux=True))(variables)
  stats = updated['batch_stats']['blocks']
  np.testing.assert_array_equal(stats['token_mixer']['map'], rows)
  assert np.any(stats['token_norm']['mean'] != 0)
  frozen = gradient['batch_stats']['blocks']['token_mixer']['map']
  np.testing.assert_array_equal(frozen, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('mixer', 'sees_order'),
  [
    ('none', False),
    ('attention', False),
    ('pool', True),
  ],
)
def test_where_the_order_of_patches_matters(mixer, sees_order):
  model, variables = build(token_mixer=mixer)
  patches = normalized(images_of()).reshape(4, 4, 2, 4, 2, 3)
  shuffled = patches[:, [2, 0, 3, 1]][:, :, :, [1, 3, 0, 2]]
  logits, other = (
    model.apply(variables, x.reshape(4, 8, 8, 3), train=False)
    for x in (patches, shuffled)
  )
  assert (np.abs(logits - other).max() > 1e-5) == sees_order


@pytest.mark.slow
@pytest.mark.parametrize('pooling', ['mean', 'class_token'])
def test_position_embedding_is_resampled_to_other_sizes(pooling):
  fields = {'token_mixer': 'attention', 'position_embedding': True}
  model, variables = build(**fields, pooling=pooling)
  table = variables['params']['positions']
  assert table.shape[1] == 16 + (pooling == 'class_token')
  # A table of one vector stays one, whatever the size: 6 x 8 patches.
  row, extra = jnp.arange(8.0), table.shape[1] - 16
  params = variables['params'] | {
    'positions': jnp.broadcast_to(row, table.shape)
  }
  resize = models.MODELS['isotropic'].resize
  resized = resize(params, model, (8, 8), (12, 16))['positions']
  expected = np.tile(row, (1, 48 + extra, 1))
  np.testing.assert_allclose(resized, expected, atol=1e-4)
  larger = jnp.zeros((1, 12, 16, 3))
  logits = model.apply(variables | {'params': params}, larger, train=False)
  assert logits.shape == (1, 10)


@pytest.mark.slow
@pytest.mark.parametrize('mixer', ['linear', 'mlp', 'random'])
def test_images_of_another_size_are_refused_by_mixers_of_fixed_tokens(mixer):
  model, variables = build(token_mixer=mixer)
  message = 'is for 16 tokens, and images of this size have 36'
  with pytest.raises(UserError, match=message):
    model.apply(variables, jnp.zeros((1, 12, 12, 3)), train=False)
  with pytest.raises(UserError, match=message):
    models.MODELS['isotropic'].resize(
      variables['params'], model, (8, 8), (12, 12)
    )


@pytest.mark.slow
def test_images_that_patches_do_not_divide_are_cropped_or_refused():
  image = jnp.zeros((1, 9, 9, 3))
  model, variables = build()
  logits = model.apply(variables, image, train=False)
  cropped = model.apply(variables, image[:, :8, :8], train=False)
  np.testing.assert_array_equal(logits, cropped)
  model, variables = build(stem='overlapping')
  with pytest.raises(UserError, match='patch_size = 2 does not divide the im'):
    model.apply(variables, image, train=False)
  with pytest.raises(UserError, match='patch_size = 2 is larger than the im'):
    model.apply(variables, image[:, :1], train=False)


# Each choice of each field is in one of these at least.
COMBINATIONS = [
  {
    'stem': 'overlapping',
    'patch_size': 4,
    'token_mixer': 'attention',
    'norm': 'layer',
    'norm_place': 'before',
    'residual': 'both',
    'layer_scale': 0.1,
    'position_embedding': True,
    'pooling': 'class_token',
  },
  {
    'stem': 'convolutions',
    'patch_size': 4,
    'token_mixer': 'linear',
    'norm': 'group',
    'layer_scale': 0.1,
  },
  {
    'stem': 'pixels',
    'patch_size': 1,
    'token_mixer': 'pool',
    'norm': 'affine',
    'stem_activation': False,
  },
  {'token_mixer': 'mlp', 'norm': 'none', 'residual': 'none'},
  {
    'token_mixer': 'random',
    'norm_place': 'before',
    'pooling': 'class_token',
    'token_activation': False,
  },
  {'token_mixer': 'none', 'channel_mixer': 'mlp', 'activation': 'relu'},
]


@pytest.mark.slow
def test_every_stem_goes_with_every_token_mixer():
  sizes = {'patches': 4, 'overlapping': 4, 'convolutions': 4, 'pixels': 1}
  for stem, mixer in itertools.product(STEMS, TOKEN_MIXERS):
    shapes = shapes_of(
      8, stem=stem, patch_size=sizes[stem], token_mixer=mixer, width=8
    )
    assert 'head' in shapes['params']


@pytest.mark.slow
@pytest.mark.parametrize('fields', COMBINATIONS, ids=str)
def test_combination_has_all_gradients(fields):
  model, variables = build(**fields, depth=1)
  images, labels = normalized(images_of(count=8)), jnp.arange(8)
  rest = {k: v for k, v in variables.items() if k != 'params'}

  def loss(params):
    logits, _ = model.apply(
      {'params': params, **rest}, images, train=True, mutable=['batch_stats']
    )
    return -jax.nn.log_softmax(logits)[labels, labels].mean()

  gradient = jax.jit(jax.grad(loss))(variables['params'])
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert np.isfinite(leaf).all() and np.any(leaf != 0), path
