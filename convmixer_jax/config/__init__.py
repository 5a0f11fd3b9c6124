"""The config of a run: its keys (`schema`), and what they may be."""

from collections.abc import Mapping
from typing import TypeVar

import ml_collections

from convmixer_jax.config.images import (
  ImageSize,
  describe_size,
  eval_image_size,
  height_width,
  image_shape,
  num_channels,
  to_image_size,
)
from convmixer_jax.config.keys import (
  Key,
  Range,
  at_least,
  check_value,
  describe_kind,
  describe_values,
  one_of,
)
from convmixer_jax.config.reference import describe, table
from convmixer_jax.config.schema import SCHEMA, default_config
from convmixer_jax.config.validation import (
  changed_keys,
  check_known,
  flatten,
  nearest,
  unread_options,
  validate,
)
from convmixer_jax.errors import UserError

Variant = TypeVar('Variant')


def choose_variant(
  variants: Mapping[str, Variant], name: str, where: str
) -> Variant:
  """Returns `variants[name]`; raises UserError with the list if it is not."""
  if name not in variants:
    raise UserError(
      f'{where} has no variant {name!r}; there are {", ".join(variants)}'
    )
  return variants[name]


def uses_mixup(config: ml_collections.ConfigDict) -> bool:
  """Whether images are mixed by mixup or CutMix."""
  return config.mixup.mixup_alpha > 0 or config.mixup.cutmix_alpha > 0


def num_train_steps(
  config: ml_collections.ConfigDict, steps_per_epoch: int
) -> int:
  """Returns how many updates the run makes in all."""
  return config.num_steps or config.num_epochs * steps_per_epoch


__all__ = [
  'SCHEMA',
  'ImageSize',
  'Key',
  'Range',
  'at_least',
  'changed_keys',
  'check_known',
  'check_value',
  'choose_variant',
  'default_config',
  'describe',
  'describe_kind',
  'describe_size',
  'describe_values',
  'eval_image_size',
  'flatten',
  'height_width',
  'image_shape',
  'nearest',
  'num_channels',
  'num_train_steps',
  'one_of',
  'table',
  'to_image_size',
  'unread_options',
  'uses_mixup',
  'validate',
]
