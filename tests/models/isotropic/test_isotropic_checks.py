"""Settings that make no sense together are refused with the reason."""

import pytest

from convmixer_jax import models
from convmixer_jax.errors import UserError

REFUSED = [
  ({'stem': 'pixels'}, 'every pixel is a token, so the patch size has to be 1'),
  (
    {'stem': 'overlapping', 'patch_size': 1},
    "stem = 'overlapping' with config.model.patch_size = 1: patches of 1 pixel",
  ),
  (
    {'stem': 'convolutions', 'patch_size': 2},
    'two or more convolutions of stride 2 make a patch size of 4, 8',
  ),
  ({'stem': 'convolutions', 'patch_size': 6}, 'make a patch size of 4, 8'),
  (
    {'pooling': 'class_token'},
    "pooling = 'class_token' with config.model.token_mixer = 'convolution': it "
    'has no place in the grid',
  ),
  ({'pooling': 'class_token', 'token_mixer': 'pool'}, 'an average needs'),
  ({'pooling': 'class_token', 'token_mixer': 'none'}, 'never sees the image'),
  (
    {'token_mixer': 'attention', 'width': 8, 'heads': 3},
    'config.model.heads = 3 does not divide config.model.width = 8; choose one '
    'of 1, 2, 4, 8',
  ),
  ({'token_mixer': 'pool', 'kernel_size': 1}, 'minus that token is 0'),
  (
    {'layer_scale': 0.1, 'residual': 'none'},
    "layer_scale = 0.1 with config.model.residual = 'none': LayerScale is of",
  ),
  ({'drop_path': 0.1, 'residual': 'none'}, 'nothing is left where a branch is'),
  (
    {'token_mixer': 'none', 'norm': 'none', 'token_activation': False},
    'would add the tokens to themselves',
  ),
  ({'bn_group_size': 2, 'norm': 'layer'}, 'only BatchNorm has statistics of'),
  ({'token_mixer': 'conv'}, 'one of convolution, attention, linear, mlp, pool'),
]
ACCEPTED = [
  {'stem': 'pixels', 'patch_size': 1},
  {'stem': 'convolutions', 'patch_size': 16},
  {'pooling': 'class_token', 'token_mixer': 'linear'},
  {'width': 9, 'heads': 4},  # heads say nothing about a convolution
  {'layer_scale': 0.1, 'residual': 'token'},
  {'bn_group_size': 2},
  {'token_mixer': 'none', 'norm': 'none'},
  {'token_mixer': 'none', 'token_activation': False},
]


@pytest.mark.parametrize(('fields', 'message'), REFUSED)
def test_settings_that_contradict_each_other_are_refused(fields, message):
  config = models.model_config('isotropic', **fields)
  with pytest.raises(UserError) as error:
    models.create_model(config, 10)
  text = str(error.value)
  assert message in text and '\n' not in text


@pytest.mark.parametrize('fields', ACCEPTED)
def test_settings_that_make_sense_are_accepted(fields):
  models.create_model(models.model_config('isotropic', **fields), 10)
