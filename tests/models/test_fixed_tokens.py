"""ResMLP and MLP-Mixer equal timm's; their mistakes show in the reference.

Regenerate the fixtures with fixtures/make_fixed_token_fixtures.py.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from wrong_mlp import mlp_by_tanh

from configs import imagenet
from convmixer_jax import models
from convmixer_jax.errors import UserError
from convmixer_jax.models import layers
from convmixer_jax.pretrained.load import load

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
NAMES = ('resmlp', 'mixer')
TOLERANCE = 2e-6
FIELDS = {
  'width': 24,
  'depth': 3,
  'patch_size': 8,
  'mlp_ratio': 4,
  'num_classes': 5,
}


@functools.cache
def arrays_of(name):
  with np.load(FIXTURES / f'{name}.npz') as file:
    return dict(file)


def tensors_of(name, kind='weights'):
  return {
    key.removeprefix(f'{kind}/'): array
    for key, array in arrays_of(name).items()
    if key.startswith(f'{kind}/')
  }


def create(name, **changes):
  """Returns the model of the fixture, and its variables."""
  state_dict = models.MODELS[name].state_dict
  fields, named = state_dict.infer_fields(tensors_of(name), 'fixture')
  model = models.MODELS[name].module(**(fields | changes))
  return model, state_dict.from_timm(named)


def error(name, **changes):
  """Returns the largest difference from timm's logits and features.

  Relative to their standard deviation.
  """
  model, variables = create(name, **changes)
  arrays = arrays_of(name)
  logits, state = jax.jit(
    lambda variables, images: model.apply(
      variables, images, train=False, mutable='intermediates'
    )
  )(variables, arrays['images'])
  (features,) = state['intermediates']['features']
  return max(
    np.abs(found - arrays[key]).max() / np.std(arrays[key])
    for key, found in (('logits', logits), ('features', features))
  )


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('changes', [{}, {'scan': True, 'remat': True}])
def test_logits_and_features_equal_timm(name, changes):
  assert error(name, **changes) < TOLERANCE


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.slow
def test_gradients_equal_timm(name):
  model, variables = create(name)
  images = arrays_of(name)['images']

  def loss(params):
    logits = model.apply({**variables, 'params': params}, images, train=True)
    return -jax.nn.log_softmax(logits)[jnp.arange(2), jnp.arange(2)].mean()

  gradient = jax.jit(jax.grad(loss))(variables['params'])
  to_timm = models.MODELS[name].state_dict.to_timm
  found = to_timm({**variables, 'params': gradient})
  for key, expected in tensors_of(name, 'gradients').items():
    # That of a bias before LayerNorm is 0 but for rounding.
    scale = max(np.abs(expected).max(), 0.1)
    np.testing.assert_allclose(
      found[key], expected, rtol=0, atol=2e-5 * scale, err_msg=key
    )


@pytest.mark.parametrize('name', NAMES)
def test_reference_detects_gelu_by_tanh(name, monkeypatch):
  monkeypatch.setattr(layers.kernels, 'mlp', mlp_by_tanh)
  assert error(name) > 4 * TOLERANCE


def test_reference_detects_another_epsilon(monkeypatch):
  monkeypatch.setattr(layers, 'EPSILON', 1e-5)
  assert error('mixer') > 10 * TOLERANCE


def test_reference_detects_a_transposed_map_over_tokens(monkeypatch):
  tensors = {
    key: array.T if key.endswith('linear_tokens.weight') else array
    for key, array in tensors_of('resmlp').items()
  }
  monkeypatch.setitem(globals(), 'tensors_of', lambda name: tensors)
  assert error('resmlp') > 1e-2


@pytest.mark.parametrize('name', NAMES)
def test_fields_are_inferred_and_weights_return_bit_for_bit(name):
  model, variables = create(name)
  hidden = {'token_hidden': 12} if name == 'mixer' else {}
  assert {k: getattr(model, k) for k in FIELDS | hidden} == FIELDS | hidden
  tensors = models.MODELS[name].state_dict.to_timm(variables)
  assert tensors.keys() == tensors_of(name).keys()
  for key, tensor in tensors_of(name).items():
    np.testing.assert_array_equal(tensors[key], tensor)


def test_weights_with_the_authors_names_are_read(tmp_path):
  renamed = {}
  for key, tensor in tensors_of('resmlp').items():
    for timm, authors in (
      ('stem.', 'patch_embed.'),
      ('.linear_tokens.', '.attn.'),
      ('.mlp_channels.', '.mlp.'),
      ('.ls', '.gamma_'),
    ):
      key = key.replace(timm, authors)
    is_affine = key.endswith(('alpha', 'beta'))
    renamed[key] = tensor.reshape(-1) if is_affine else tensor
  path = tmp_path / 'authors.safetensors'
  safetensors.numpy.save_file(renamed, path)
  loaded = load(str(path))
  assert (loaded.network, loaded.image_size) == ('resmlp', 32)
  _, variables = create('resmlp')
  jax.tree.map(np.testing.assert_array_equal, loaded.variables, dict(variables))


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('size', [(40, 32), (64, 64)])
def test_images_of_another_size_are_refused_in_one_line(name, size):
  model, variables = create(name)
  images = jnp.zeros((1, *size, 3))
  with pytest.raises(UserError, match='for images of 16 patches') as refusal:
    model.apply(variables, images, train=False)
  assert '\n' not in str(refusal.value)


@pytest.mark.parametrize(
  ('name', 'fields', 'deviations'),
  [
    # Standard deviations of the authors' initialisation.
    (
      'resmlp',
      {'layer_scale': 0.1},
      {
        'patch_embedding/kernel': (3 * 4 * 4) ** -0.5 / 3**0.5,
        'patch_embedding/bias': (3 * 4 * 4) ** -0.5 / 3**0.5,
        'blocks/token_mixer/kernel': 0.02,
        'blocks/token_mixer/bias': 0,
        'blocks/mlp/expand/kernel': 0.02,
        'blocks/mlp/contract/kernel': 0.02,
        'head/kernel': 0.02,
        'head/bias': 0,
      },
    ),
    (
      'mixer',
      {'token_hidden': 128},
      {
        'patch_embedding/kernel': (3 * 4 * 4) ** -0.5,
        'patch_embedding/bias': 0,
        'blocks/token_mixer/expand/kernel': 64**-0.5,
        'blocks/token_mixer/contract/kernel': 128**-0.5,
        'blocks/mlp/expand/kernel': 128**-0.5,
        'blocks/mlp/contract/kernel': 512**-0.5,
        'blocks/mlp/contract/bias': 0,
        'head/kernel': 0,
      },
    ),
  ],
)
@pytest.mark.slow
def test_initialisation_is_the_authors(name, fields, deviations):
  config = models.model_config(name, width=128, depth=2, patch_size=4, **fields)
  model = models.create_model(config, 100)
  params = jax.jit(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False
    )
  )()['params']
  for path, deviation in deviations.items():
    leaf = functools.reduce(
      lambda tree, key: tree[key], path.split('/'), params
    )
    np.testing.assert_allclose(np.std(leaf), deviation, rtol=0.12, err_msg=path)
  if name == 'resmlp':
    for key in ('token_scale', 'mlp_scale'):
      np.testing.assert_array_equal(
        params['blocks'][key], np.full((2, 128), 0.1, np.float32)
      )


@pytest.mark.parametrize(
  ('variant', 'factor'),
  [
    # The authors' code: 0.1 up to 18 layers, 1e-5 up to 24, 1e-6 beyond, and
    # 1e-6 in the B networks. timm's differ: 1e-4 for 12 layers.
    ('resmlp_s12', 0.1),
    ('resmlp_s24', 1e-5),
    ('resmlp_s36', 1e-6),
    ('resmlp_b24_8', 1e-6),
    ('resmlp_b24_16', 1e-6),
  ],
)
def test_branches_begin_with_the_factors_of_the_authors(variant, factor):
  config = imagenet.get_config(variant).model
  config.width, config.depth = 4, 1
  model = models.create_model(config, 2)
  images = jnp.zeros((1, 16, 16, 3))
  block = model.init(jax.random.key(0), images, train=False)['params']['blocks']
  for key in ('token_scale', 'mlp_scale'):
    np.testing.assert_array_equal(block[key], np.float32(factor))


@pytest.mark.parametrize('name', NAMES)
def test_drop_path_has_the_same_rate_in_all_blocks(name):
  """A block whose branches are both dropped leaves the image as it was."""
  rate, count = 0.7, 400
  model, variables = create(name, drop_path=rate, scan=True)
  images = jax.random.normal(jax.random.key(1), (count, 32, 32, 3))
  _, state = jax.jit(
    lambda: model.apply(
      variables,
      images,
      train=True,
      mutable='intermediates',
      rngs={'dropout': jax.random.key(0)},
    )
  )()
  found = state['intermediates']
  (outputs,) = found['blocks']['output']
  tokens = np.stack([found['stem'][0], *outputs])
  unchanged = np.all(tokens[1:] == tokens[:-1], axis=(2, 3, 4)).mean(axis=1)
  deviation = (rate**2 * (1 - rate**2) / count) ** 0.5
  assert np.abs(unchanged - rate**2).max() < 4 * deviation
