"""timm's ViT, which takes any fields by their names there."""

from collections.abc import Mapping
from typing import Any

from convmixer_jax.config import ImageSize, height_width
from convmixer_jax.models.timm_model import TimmModel

_ARCHITECTURE = 'vit_base_patch16_224'
_DISTILLED = 'deit_base_distilled_patch16_224'


def timm_model(
  fields: Mapping[str, Any],
  num_classes: int,
  channels: int,
  image_size: ImageSize,
  architecture: str = _ARCHITECTURE,
) -> TimmModel:
  """Returns how timm creates a ViT; that of a DeiT is the same."""
  height, width = height_width(image_size)
  arguments = {
    'embed_dim': fields['width'],
    'depth': fields['depth'],
    'num_heads': fields['heads'],
    'mlp_ratio': fields['mlp_ratio'],
    'patch_size': fields['patch_size'],
    'img_size': height if height == width else [height, width],
    'in_chans': channels,
  }
  listed = ', '.join(f'{name}={value}' for name, value in arguments.items())
  return TimmModel(
    'import timm',
    f"timm.create_model('{architecture}', num_classes={num_classes}, {listed})",
    first_conv='patch_embed.proj',
    architecture=architecture,
    model_args=arguments,
  )


def distilled_timm_model(
  fields: Mapping[str, Any],
  num_classes: int,
  channels: int,
  image_size: ImageSize,
) -> TimmModel:
  """Returns how timm creates a distilled ViT."""
  found = timm_model(fields, num_classes, channels, image_size, _DISTILLED)
  return found._replace(classifier=('head', 'head_dist'))
