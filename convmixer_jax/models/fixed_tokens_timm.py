"""timm's ResMLPs and Mixers: a few with names, others by their class."""

from collections.abc import Mapping
from typing import Any

from convmixer_jax.config import ImageSize, height_width
from convmixer_jax.models.timm_model import TimmModel

# The fields behind timm's names, which take none of them as an argument.
_RESMLPS = {
  'resmlp_12_224': (384, 12, 16, 4),
  'resmlp_24_224': (384, 24, 16, 4),
  'resmlp_36_224': (384, 36, 16, 4),
  'resmlp_big_24_224': (768, 24, 8, 4),
}
_MIXERS = {'mixer_b16_224': (768, 12, 16, 4, 384)}
_BASIC = ('width', 'depth', 'patch_size', 'mlp_ratio')


def resmlp(
  fields: Mapping[str, Any],
  num_classes: int,
  channels: int,
  image_size: ImageSize,
) -> TimmModel:
  """Returns how timm creates a ResMLP."""
  key = tuple(fields[name] for name in _BASIC)
  found = _mlp_mixer(
    fields,
    num_classes,
    channels,
    image_size,
    f'mlp_ratio={fields["mlp_ratio"]}, block_layer=ResBlock, norm_layer=Affine',
  )
  return found._replace(
    imports='from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock',
    architecture=_name(_RESMLPS, key),
  )


def mixer(
  fields: Mapping[str, Any],
  num_classes: int,
  channels: int,
  image_size: ImageSize,
) -> TimmModel:
  """Returns how timm creates an MLP-Mixer."""
  hidden, width = fields['token_hidden'], fields['width']
  key = (*(fields[name] for name in _BASIC), hidden)
  # timm rounds the product with the width down, so half a unit is added.
  ratios = f'({hidden + 0.5} / {width}, {fields["mlp_ratio"]})'
  found = _mlp_mixer(
    fields, num_classes, channels, image_size, f'mlp_ratio={ratios}'
  )
  return found._replace(architecture=_name(_MIXERS, key))


def _mlp_mixer(fields, num_classes, channels, image_size, particular):
  height, width = height_width(image_size)
  images = {
    'img_size': height if height == width else [height, width],
    'in_chans': channels,
  }
  usual = {'img_size': 224, 'in_chans': 3}
  listed = ', '.join(f'{name}={value}' for name, value in images.items())
  return TimmModel(
    'from timm.models.mlp_mixer import MlpMixer',
    f'MlpMixer(num_classes={num_classes}, {listed}, '
    f'embed_dim={fields["width"]}, num_blocks={fields["depth"]}, '
    f'patch_size={fields["patch_size"]}, {particular})',
    first_conv='stem.proj',
    model_args={k: v for k, v in images.items() if v != usual[k]},
  )


def _name(names, key):
  return next((name for name, fields in names.items() if fields == key), None)
