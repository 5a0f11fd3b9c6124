"""ViT equals timm's, and the reference shows each mistake that is easily made.

Regenerate fixtures/vit.npz with fixtures/make_vit_fixtures.py.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from etils import epath
from timm_fixture import read_arrays, weights_of
from wrong_mlp import mlp_by_tanh

from configs import finetune
from convmixer_jax.errors import UserError
from convmixer_jax.models import VARIANTS, VIT, ViT, layers
from convmixer_jax.pretrained import weight_files
from convmixer_jax.pretrained.load import load
from convmixer_jax.pretrained.source import FileSource

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'vit.npz'
SIZES = ('32x32', '48x48', '40x24')
TOLERANCE = 1e-5


@pytest.fixture(scope='module')
def arrays():
  return read_arrays(FIXTURE)


@pytest.fixture(scope='module')
def tensors(arrays):
  return weights_of(arrays)


def create(tensors, **changes):
  """Returns the model of the tensors, and its variables."""
  fields, named = VIT.state_dict.infer_fields(tensors, 'fixture')
  model = ViT(**({'heads': 3} | fields | changes))
  return model, VIT.state_dict.from_timm(named)


def error(arrays, tensors, size='32x32', **changes):
  """Returns the largest difference from timm's logits and features."""
  model, variables = create(tensors, **changes)
  apply = functools.partial(model.apply, train=False, mutable='intermediates')
  logits, state = jax.jit(lambda *arguments: apply(*arguments))(
    variables, arrays[f'{size}/images']
  )
  (features,) = state['intermediates']['features']
  return max(
    np.abs(logits - arrays[f'{size}/logits']).max(),
    np.abs(features - arrays[f'{size}/features']).max(),
  )


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('changes', [{}, {'scan': True, 'remat': True}])
def test_logits_and_features_equal_timm_at_any_size(
  arrays, tensors, size, changes
):
  assert error(arrays, tensors, size, **changes) < TOLERANCE


def test_fields_are_inferred_from_the_tensors(tensors):
  fields, _ = VIT.state_dict.infer_fields(tensors, 'fixture')
  assert fields == {
    'width': 24,
    'depth': 3,
    'patch_size': 8,
    'mlp_ratio': 4,
    'num_classes': 5,
  }


def test_reference_detects_gelu_by_tanh(arrays, tensors, monkeypatch):
  monkeypatch.setattr(layers.kernels, 'mlp', mlp_by_tanh)
  assert error(arrays, tensors) > 4 * TOLERANCE


def test_reference_detects_another_epsilon(arrays, tensors, monkeypatch):
  monkeypatch.setattr(layers, 'EPSILON', 1e-5)
  assert error(arrays, tensors) > 10 * TOLERANCE


def with_class_token_last(tensors):
  rolled = np.roll(tensors['pos_embed'], -1, axis=1)
  return tensors | {'pos_embed': rolled}


def with_position_embedding_before_class_token(tensors):
  table = tensors['pos_embed'].copy()
  table[:, 0] = 0
  return tensors | {'pos_embed': table}


def in_blocks(tensors, change):
  """Changes the output axis of all qkv layers, `[3, heads, size, ...]`."""

  def changed(array):
    parts = array.reshape(3, 3, 8, *array.shape[1:])
    return change(parts).reshape(array.shape)

  return tensors | {
    name: changed(array) for name, array in tensors.items() if '.qkv.' in name
  }


def with_keys_before_queries(tensors):
  return in_blocks(tensors, lambda parts: parts[[1, 0, 2]])


def with_heads_before_qkv(tensors):
  return in_blocks(tensors, lambda parts: parts.swapaxes(0, 1))


@pytest.mark.parametrize(
  'change',
  [
    with_class_token_last,
    with_position_embedding_before_class_token,
    with_keys_before_queries,
    with_heads_before_qkv,
  ],
)
def test_reference_detects_another_order_of_weights(arrays, tensors, change):
  assert error(arrays, change(tensors)) > 100 * TOLERANCE


def test_reference_detects_resampling_without_antialias(
  arrays, tensors, monkeypatch
):
  resize = jax.image.resize
  monkeypatch.setattr(
    jax.image,
    'resize',
    lambda x, shape, method, antialias: resize(x, shape, method, False),
  )
  assert error(arrays, tensors, '40x24') > 100 * TOLERANCE


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'heads': 5},
      'heads = 5 does not divide config.model.width = 24; choose one of 1, 2',
    ),
    (
      {'depth': 0},
      'config.model.depth = 0 is not at least 1',
    ),
    (
      {'drop_path': 1.0},
      'config.model.drop_path = 1.0 is not at least 0 and below 1',
    ),
    ({'drop_path': -0.1}, 'config.model.drop_path = -0.1 is not at least 0'),
  ],
)
def test_field_out_of_range_is_refused(tensors, changes, message):
  with pytest.raises(UserError, match=message):
    create(tensors, **changes)


@pytest.mark.parametrize('size', [(30, 32), (32, 0)])
def test_image_that_patches_do_not_divide_is_refused(tensors, size):
  model, variables = create(tensors)
  with pytest.raises(UserError, match=r'patch_size = 8 does not divide the im'):
    model.apply(variables, jnp.zeros((1, *size, 3)), train=False)


def test_tensors_of_another_network_are_refused_with_a_list(tensors):
  changed = dict(tensors)
  del changed['norm.bias']
  changed['head_dist.bias'] = np.zeros(5, np.float32)
  with pytest.raises(
    UserError,
    match=r'x is not a ViT as timm lays .*; missing: norm\.bias; surplus: h',
  ):
    VIT.state_dict.infer_fields(changed, 'x')


def test_number_of_heads_must_be_given_where_tensors_lack_it(
  tensors, tmp_path, caplog
):
  path = str(tmp_path / 'x.safetensors')
  _, variables = create(tensors)
  fields = {'width': 24, 'depth': 3, 'patch_size': 8, 'mlp_ratio': 4}
  safetensors.numpy.save_file(VIT.state_dict.to_timm(variables), path)
  with pytest.raises(
    UserError, match='its heads; give --model=heads=VALUE, or a v'
  ):
    load(path)
  loaded = load(path, 'heads=3')
  assert loaded.fields == fields | {'heads': 3}
  assert loaded.image_size == 32  # of 4 x 4 patches
  for wrong, message in {
    'heads=many': "'heads=many' has no whole number",
    'heds=3': "'heds' is not a field of a network; did you mean 'heads'",
    'width=48,heads=3': "has width = 24, not 48 as 'width=48,heads=3' has it",
  }.items():
    with pytest.raises(UserError, match=message):
      load(path, wrong)
  for other in ('convmixer', '768_32', 'relu', 'kernel_size=3'):
    with pytest.raises(UserError, match="the tensors of 'vit', which"):
      load(path, other)
  contents = weight_files.read(FileSource(epath.Path(path)), path)
  assert contents.fields == fields
  assert VIT.state_dict.assume({'width': 768}) == {'heads': 12}


def test_config_json_of_timm_is_read(tensors, tmp_path):
  safetensors.numpy.save_file(tensors, tmp_path / 'model.safetensors')
  config = {
    'architecture': 'vit_base_patch16_224',
    'pretrained_cfg': {
      'input_size': [3, 224, 224],
      'crop_pct': 0.9,
      'mean': [0.5, 0.5, 0.5],
      'std': [0.5, 0.5, 0.5],
    },
  }
  (tmp_path / 'config.json').write_text(json.dumps(config))
  loaded = load(str(tmp_path))
  assert loaded.network == 'vit' and loaded.fields['heads'] == 12
  assert loaded.mean == loaded.std == (0.5, 0.5, 0.5)
  assert (loaded.image_size, loaded.eval_crop_fraction) == (224, 0.9)
  (tmp_path / 'config.json').unlink()
  with pytest.raises(UserError, match="width = 24, not 768 as 'deit_b' has"):
    load(str(tmp_path), 'deit_b')


def test_finetune_configs_name_released_weights():
  config = finetune.get_config('vit_b16')
  assert config.init_from.startswith('hf://timm/vit_base_patch16_224.')
  assert config.dataset.mean == config.dataset.std == (0.5, 0.5, 0.5)
  config = finetune.get_config('deit_b')
  assert config.init_from == 'hf://timm/deit_base_patch16_224.fb_in1k'
  assert config.dataset.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize('is_older', [False, True])
def test_weights_with_torchvisions_names_are_read(
  is_older, tmp_path, monkeypatch
):
  fields = {'width': 16, 'depth': 2, 'patch_size': 8, 'heads': 2}
  published = VARIANTS['vit_b16'] | fields  # as small as the fixture's
  monkeypatch.setitem(VARIANTS, 'vit_b16', published)
  with np.load(FIXTURE.with_name('torchvision_vit.npz')) as file:
    arrays = dict(file)
  images, expected = arrays.pop('images'), arrays.pop('logits')
  tensors = {}
  for key, array in arrays.items():
    name = key.removeprefix('weights/')
    if is_older:
      name = name.replace('mlp.0.', 'mlp.linear_1.')
      name = name.replace('mlp.3.', 'mlp.linear_2.')
    tensors[name] = array
  path = tmp_path / 'vit_b_16-c867db91.pth'
  safetensors.numpy.save_file(tensors, path)
  loaded = load(str(path), 'heads=2')
  assert (loaded.network, loaded.image_size) == ('vit', 16)
  assert loaded.eval_interpolation == 'bilinear'
  assert loaded.eval_crop_fraction == 0.875
  logits = loaded.model.apply(loaded.variables, images, train=False)
  np.testing.assert_allclose(logits, expected, rtol=0, atol=TOLERANCE)
  del tensors['encoder.ln.bias']
  with pytest.raises(UserError, match=r'missing: norm\.bias; give weights of'):
    VIT.state_dict.infer_fields(tensors, 'x')
