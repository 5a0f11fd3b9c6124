"""The networks, in Flax linen, and the table of them by name."""

from convmixer_jax.models.architecture import (
  Architecture,
  describe,
  patch_size_of,
)
from convmixer_jax.models.convmixer import CONVMIXER, ConvMixer
from convmixer_jax.models.fields import Field
from convmixer_jax.models.registry import (
  DEFAULT,
  DTYPES,
  MODELS,
  RELEASED,
  VARIANTS,
  architecture_of,
  check_network,
  choose_network,
  create_model,
  find_architecture,
  free_keys,
  is_field_of_another,
  is_known,
  list_fields,
  model_config,
  validate,
)
from convmixer_jax.models.vit import VIT, ViT

__all__ = [
  'CONVMIXER',
  'DEFAULT',
  'DTYPES',
  'MODELS',
  'RELEASED',
  'VARIANTS',
  'VIT',
  'Architecture',
  'ConvMixer',
  'Field',
  'ViT',
  'architecture_of',
  'check_network',
  'choose_network',
  'create_model',
  'describe',
  'find_architecture',
  'free_keys',
  'is_field_of_another',
  'is_known',
  'list_fields',
  'model_config',
  'patch_size_of',
  'validate',
]
