"""The distilled DeiT equals timm's; two tokens, two heads, one answer.

Regenerate fixtures/distilled_vit.npz with fixtures/make_vit_fixtures.py.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from architectures import config_of
from timm_fixture import read_arrays, weights_of

from configs import imagenet
from convmixer_jax import models
from convmixer_jax.analysis import flops
from convmixer_jax.errors import UserError
from convmixer_jax.models.layer_numbers import number_layers
from convmixer_jax.pretrained.load import load
from convmixer_jax.training import initialize

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'distilled_vit.npz'
SIZES = ('32x32', '48x48', '40x24')
TOLERANCE = 1e-5
NETWORK = models.MODELS['distilled_vit']


@pytest.fixture(scope='module')
def arrays():
  return read_arrays(FIXTURE)


@pytest.fixture(scope='module')
def tensors(arrays):
  return weights_of(arrays)


def error(arrays, tensors, size='32x32', **changes):
  """Returns the largest difference from timm's logits and features."""
  fields, named = NETWORK.state_dict.infer_fields(tensors, 'fixture')
  model = NETWORK.module(**({'heads': 3} | fields | changes))
  variables = NETWORK.state_dict.from_timm(named)
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
def test_logits_and_features_equal_timm_at_any_size(arrays, tensors, size):
  assert error(arrays, tensors, size) < TOLERANCE


def with_tokens_exchanged(tensors):
  table = tensors['pos_embed'].copy()
  table[:, :2] = table[:, 1::-1]
  return {
    'cls_token': tensors['dist_token'],
    'dist_token': tensors['cls_token'],
    'pos_embed': table,
  }


def with_heads_exchanged(tensors):
  return {
    f'head.{part}': tensors[f'head_dist.{part}'] for part in ('weight', 'bias')
  } | {
    f'head_dist.{part}': tensors[f'head.{part}'] for part in ('weight', 'bias')
  }


def with_one_head_alone(tensors):
  return {
    'head_dist.weight': tensors['head.weight'],
    'head_dist.bias': tensors['head.bias'],
  }


@pytest.mark.parametrize(
  'change', [with_tokens_exchanged, with_heads_exchanged, with_one_head_alone]
)
def test_reference_detects_another_order(arrays, tensors, change):
  assert error(arrays, tensors | change(tensors)) > 100 * TOLERANCE


def test_file_is_recognised_and_weights_return_bit_for_bit(tensors, tmp_path):
  path = tmp_path / 'deit_base_distilled_patch16_224-df68dfff.safetensors'
  wrapped = {f'module.{name}': tensor for name, tensor in tensors.items()}
  safetensors.numpy.save_file(wrapped, path)
  loaded = load(str(path), 'heads=3')
  assert (loaded.network, loaded.image_size) == ('distilled_vit', 32)
  assert loaded.eval_crop_fraction == 0.9
  back = NETWORK.state_dict.to_timm(loaded.variables)
  assert back.keys() == tensors.keys()
  for name, tensor in tensors.items():
    np.testing.assert_array_equal(back[name], tensor)


def test_file_without_the_second_head_is_refused(tensors):
  part = {k: v for k, v in tensors.items() if k != 'head_dist.bias'}
  with pytest.raises(UserError, match=r'distilled V.*missing: head_dist\.bias'):
    NETWORK.state_dict.infer_fields(part, 'x')


def test_counts_equal_timms():
  model = models.create_model(
    models.model_config(**models.VARIANTS['deit_b_distilled']), 1000
  )
  assert flops.count_parameters(model, 224) == 87_338_192
  assert round(flops.count_forward(model, 224).total / 1e9, 3) == 17.657


def test_recipe_is_that_of_deit_without_a_teacher():
  found, deit = (
    imagenet.get_config(variant) for variant in ('deit_b_distilled', 'deit_b')
  )
  assert found.model.name == 'distilled_vit'
  found.model = deit.model
  assert found == deit


def test_new_classes_replace_both_heads(tensors, tmp_path, capsys):
  path = str(tmp_path / 'weights.safetensors')
  safetensors.numpy.save_file(tensors, path)
  config = config_of('distilled_vit')
  fields = {'width': 24, 'depth': 3, 'patch_size': 8, 'heads': 3}
  config.model = models.model_config('distilled_vit', **fields)
  config.init_from, config.dataset.image_size = path, 32
  model = models.create_model(config.model, 3)
  start = initialize.load_pretrained(config, model, 'abc')
  assert 'head' not in start['params']
  assert {'class_token', 'distillation_token'} <= start['params'].keys()
  assert 'the head is initialised from random' in capsys.readouterr().out
  same = initialize.load_pretrained(config, model, 'abcde')['params']['head']
  np.testing.assert_array_equal(
    same['distillation_token']['bias'], tensors['head_dist.bias']
  )


def test_both_tokens_belong_to_the_embedding_layer():
  model = models.create_model(config_of('distilled_vit').model, 10)
  params = jax.eval_shape(
    lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
  )['params']
  numbers = number_layers(NETWORK, params)
  assert numbers['class_token'] == numbers['distillation_token'] == 0
  assert numbers['head'] == 3
