"""What every config must hold: checked once, before anything is built."""

import difflib
import functools
import math
import pathlib
import runpy
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from convmixer_jax.errors import UserError

# A run may go on with other values of these: they change neither the network
# nor what it is trained on. So it is with some fields of each network
# (`models.free_keys`).
FREE_TO_CHANGE = (
  'num_epochs',
  'num_steps',
  'dataset.data_dir',
  'dataset.cache_mib',
  'mesh',
  'input',
  'log_every_steps',
  'eval_every_epochs',
  'checkpoint_every_steps',
  'keep_checkpoints',
  'max_nonfinite',
  'hang_timeout',
  'profile',
)

# What runs did that were started before these were in the config.
_ADDED = {
  'init_from': '',
  'new_head': False,
  'backbone_lr_scale': 1.0,
  'augment.rand_augment.policy': 'timm',
  'model.name': 'convmixer',
}

_KINDS = {
  bool: 'True or False',
  int: 'a whole number',
  float: 'a finite number',
  str: 'a string',
  type(None): 'a string or None',
}
_CHOICES = {
  'dtype': ('float32', 'bfloat16'),
  'schedule': ('triangular', 'cosine', 'constant'),
}
_AT_LEAST_ONE = (
  'batch_size',
  'accum_steps',
  'dataset.image_size',
  'mesh.fsdp',
  'input.prefetch',
  'log_every_steps',
  'eval_every_epochs',
  'checkpoint_every_steps',
  'keep_checkpoints',
  'max_nonfinite',
  'hang_timeout',
)
_NOT_NEGATIVE = (
  'seed',
  'num_epochs',
  'num_steps',
  'dataset.cache_mib',
  'mixup.mixup_alpha',
  'mixup.cutmix_alpha',
  'mixup.group_size',
  'learning_rate',
  'backbone_lr_scale',
  'warmup_epochs',
  'weight_decay',
  'adam_epsilon',
  'clip_norm',
  'input.num_threads',
)
_BELOW_ONE = ('label_smoothing', 'adam_beta1', 'adam_beta2')
_PROBABILITIES = ('erasing.probability', 'mixup.switch_probability')


def choose_variant(
  variants: Mapping[str, dict[str, Any]], name: str, where: str
) -> dict[str, Any]:
  """Returns `variants[name]`; raises UserError with the list if it is not."""
  if name not in variants:
    raise UserError(
      f'{where} has no variant {name!r}; there are {", ".join(variants)}'
    )
  return variants[name]


def flatten(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the config's leaves by dotted key, as in `{'model.width': 64}`."""
  flat = {}
  for key, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      flat |= {f'{key}.{k}': v for k, v in flatten(value).items()}
    else:
      flat[key] = value
  return flat


def nearest_key(config: ml_collections.ConfigDict, key: str) -> str:
  """Returns the dotted key of `config` that `key` is most likely to mean."""
  return difflib.get_close_matches(key, flatten(config), n=1, cutoff=0.0)[0]


def validate(config: ml_collections.ConfigDict) -> None:
  """Checks each value by itself and against the others.

  Keys and types are compared with those of configs/default.py. The network's
  fields and the ranges of the host's augmentation are checked by their owners
  (`models.validate`, `models.create_model`, `data.augment.validate`).

  Raises:
    UserError: names the field, its value and what it may be.
  """
  _check_types(config)
  values = flatten(config)

  def refuse(key, what):
    raise UserError(f'config.{key} = {values[key]!r} is not {what}')

  for key, choices in _CHOICES.items():
    if values[key] not in choices:
      refuse(key, f'one of {", ".join(choices)}')
  for key in _AT_LEAST_ONE:
    if values[key] < 1:
      refuse(key, 'at least 1')
  for key in _NOT_NEGATIVE:
    if not 0 <= values[key] < math.inf:  # nor nan
      refuse(key, 'at least 0 and finite')
  for key in _BELOW_ONE:
    if not 0 <= values[key] < 1:
      refuse(key, 'at least 0 and below 1')
  for key in _PROBABILITIES:
    if not 0 <= values[key] <= 1:
      refuse(key, 'a probability, from 0 to 1')
  for key in ('erasing.area', 'erasing.aspect'):
    if not 0 < values[key][0] <= values[key][1]:
      refuse(key, 'a pair (low, high) with 0 < low <= high')
  if config.erasing.area[1] > 1:
    refuse('erasing.area', 'a share of the image, at most 1')
  for key in ('dataset.name', 'dataset.train_split', 'dataset.eval_split'):
    if not values[key]:
      refuse(key, 'a name; see configs/default.py')
  if min(config.dataset.std) <= 0:
    refuse('dataset.std', 'positive')
  if config.mesh.data < 1 and config.mesh.data != -1:
    refuse('mesh.data', 'at least 1, or -1 for all devices that are left')
  if config.input.num_workers < -1:
    refuse('input.num_workers', 'at least 0, or -1 for a number by core count')
  if config.seed >= 2**32:
    refuse('seed', 'below 2**32')
  if config.new_head and not config.init_from:
    raise UserError(
      'config.new_head = True, and config.init_from names no weights to put it '
      'on; name some, or start from random numbers with config.new_head = False'
    )
  if config.warmup_epochs and config.schedule == 'triangular':
    raise UserError(
      f'config.warmup_epochs = {config.warmup_epochs} is not for '
      "config.schedule = 'triangular', which has a rise of its own; leave it at "
      "0, or choose 'cosine' or 'constant'"
    )
  if not config.num_epochs and not config.num_steps:
    raise UserError(
      'config.num_epochs = 0 and config.num_steps = 0; set one of them'
    )


@functools.cache
def _defaults() -> dict[str, Any]:
  """Returns the flattened default config; {} where the package is alone."""
  path = pathlib.Path(__file__).parents[1] / 'configs' / 'default.py'
  if not path.exists():
    return {}
  return flatten(runpy.run_path(str(path))['get_config']())


def _check_types(config):
  """Raises UserError unless keys and types are those of configs/default.py."""
  defaults, values = _defaults(), flatten(config)
  if not defaults:
    return
  for key in values:
    if key not in defaults and not key.startswith('model.'):
      (nearest,) = difflib.get_close_matches(key, defaults, n=1, cutoff=0.0)
      raise UserError(
        f'config.{key} is no key of configs/default.py; did you mean '
        f'config.{nearest}?'
      )
  for key, default in defaults.items():
    if key.startswith('model.'):
      continue
    if key not in values:
      raise UserError(
        f'config.{key} is missing; add it, as configs/default.py has it: '
        f'{default!r}'
      )
    if not is_like(values[key], default):
      raise UserError(
        f'config.{key} = {values[key]!r} is not {describe_kind(default)}'
      )


def describe_kind(default: Any) -> str:
  """Returns in words what values a key takes that has this default."""
  if isinstance(default, tuple):
    kind = f'{len(default)} values, each {_KINDS[type(default[0])]}'
  else:
    kind = _KINDS.get(type(default), f'a {type(default).__name__}')
  return f'{kind}, such as {default!r}'


def is_like(value: Any, default: Any) -> bool:
  """Whether a value has the type of a key with this default."""
  if isinstance(default, tuple):
    return (
      isinstance(value, (tuple, list))
      and len(value) == len(default)
      and all(map(is_like, value, default))
    )
  if default is None:  # a placeholder for a string
    return value is None or isinstance(value, str)
  if isinstance(default, float):
    return type(value) in (int, float) and math.isfinite(value)
  return type(value) is type(default)  # so that True is not 1


def check_batch_size(
  config: ml_collections.ConfigDict, num_devices: int
) -> None:
  """Checks that devices, accumulation and groups divide the batch.

  Raises:
    UserError: gives the numbers and the nearest batch sizes that work.
  """
  parts = [
    f'{num_devices} devices',
    f'{config.accum_steps} accumulation steps',
  ]
  unit = num_devices * config.accum_steps
  if config.mixup.group_size and mixes(config):
    parts.append(f'mixup groups of {config.mixup.group_size}')
    unit = math.lcm(unit, config.mixup.group_size)
  if bn_group_size := config.model.get('bn_group_size', 0):
    parts.append(f'BatchNorm groups of {bn_group_size}')
    unit = math.lcm(unit, bn_group_size * config.accum_steps)
  if config.batch_size % unit:
    below = config.batch_size // unit * unit
    nearest = f'{below} and {below + unit}' if below else f'{unit}'
    raise UserError(
      f'config.batch_size = {config.batch_size} does not divide over '
      f'{", ".join(parts)}; the nearest that do: {nearest}'
    )


def mixes(config: ml_collections.ConfigDict) -> bool:
  """Whether images are mixed by mixup or CutMix."""
  return config.mixup.mixup_alpha > 0 or config.mixup.cutmix_alpha > 0


def num_train_steps(
  config: ml_collections.ConfigDict, steps_per_epoch: int
) -> int:
  """Returns how many updates the run makes in all."""
  return config.num_steps or config.num_epochs * steps_per_epoch


def changed_keys(
  old: dict[str, Any], new: dict[str, Any], free: Sequence[str] = ()
) -> list[str]:
  """Returns the keys whose values a running experiment must not change.

  Args:
    old: flattened config the run was started with.
    new: flattened config it is to go on with.
    free: keys that may change besides `FREE_TO_CHANGE`.
  """
  old, new = _ADDED | old, _ADDED | new
  keys = old.keys() | new.keys()
  if old['model.name'] != new['model.name']:  # the fields differ with it
    keys = {k for k in keys if k == 'model.name' or k[:6] != 'model.'}
  return [
    key
    for key in sorted(keys)
    if (key in old, old.get(key)) != (key in new, new.get(key))
    and not any(
      key == kept or key.startswith(f'{kept}.')
      for kept in (*FREE_TO_CHANGE, *free)
    )
  ]
