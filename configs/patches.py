r"""Stems and token mixers compared on CIFAR-10, in small isotropic networks.

    python -m convmixer_jax prepare cifar10
    python train.py --config=configs/patches.py:stem=patch2,mixer=attention \
      --workdir=runs/patch2_attention

The part after the colon has a stem, a mixer, or both; what it lacks is a small
ConvMixer's: patches of 2 x 2 pixels, and a convolution of 5 x 5.

  stem   pixels; patch2, patch4, ...; overlapping2, overlapping4, ...: patches
         of 3 x 3 and 7 x 7 pixels; convolutions4, convolutions8, ...: two and
         three 3 x 3 convolutions of stride 2. The number is the distance of
         tokens in pixels.
  mixer  convolution, attention, linear, mlp, pool (3 x 3, as in PoolFormer),
         random, none

All else is ConvMixer's: pointwise channel mixer, BatchNorm after the
activation, residual connection around the token mixer alone. Each is a field:
--config.model.norm=layer, --config.model.residual=both, and so on.

The recipe is that of configs/cifar10.py, but for float32 and fewer epochs. To
choose a learning rate, hold out a part of the training images, so that the
choice does not see the test images:

    --config.dataset.train_split='train[:90%]' \
    --config.dataset.eval_split='train[90%:]' --config.learning_rate=0.02
"""

import re

import ml_collections

from convmixer_jax import config_files
from convmixer_jax.errors import UserError
from convmixer_jax.models import model_config

_STEMS = {
  'patch': 'patches',
  'overlapping': 'overlapping',
  'convolutions': 'convolutions',
  'pixels': 'pixels',
}
_PARTS = 'stem=patch2,mixer=attention'


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the config of a variant such as 'stem=patch2,mixer=attention'."""
  config = config_files.load('configs/cifar10')
  fields = {'width': 64, 'depth': 4} | _fields_of(variant)
  config.model = model_config('isotropic', **fields)
  config.dtype = 'float32'
  config.batch_size = 128
  config.num_epochs = 3
  return config


def _fields_of(variant):
  """Returns the fields of the network that a variant names."""
  fields = {}
  for part in filter(None, variant.split(',')):
    name, _, value = part.partition('=')
    if name == 'stem':
      fields |= _stem_fields(value)
    elif name == 'mixer':
      fields['token_mixer'] = value
      if value == 'pool':
        fields['kernel_size'] = 3
    else:
      raise UserError(
        f'configs/patches.py has no variant {variant!r}; give a stem and a '
        f'mixer, as in {_PARTS}'
      )
  return fields


def _stem_fields(value):
  match = re.fullmatch(r'([a-z]+)(\d*)', value)
  stem = _STEMS.get(match[1]) if match else None
  if stem is None or (stem == 'pixels') == bool(match[2]):
    raise UserError(
      f'configs/patches.py has no stem {value!r}; there are pixels, and '
      'patch2, overlapping4, convolutions4, with the distance of tokens in '
      'pixels'
    )
  return {'stem': stem, 'patch_size': int(match[2] or 1)}
