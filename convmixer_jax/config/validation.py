"""What every config must hold: checked once, before anything is built."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ml_collections

from convmixer_jax.config.images import num_channels
from convmixer_jax.config.keys import check_value
from convmixer_jax.config.optimizer_keys import READ_BY, SCHEDULES_READING
from convmixer_jax.config.schema import SCHEMA
from convmixer_jax.errors import UserError


def flatten(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the config's leaves by dotted key, as in `{'mesh.fsdp': 1}`."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      flat |= {f'{key}.{k}': v for k, v in flatten(value).items()}
    else:
      flat[key] = value
  return flat


def nearest(name: str, names: Iterable[str]) -> str:
  """Returns which of `names` a misspelt name is most likely to mean."""
  return difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]


def validate(config: ml_collections.ConfigDict) -> None:
  """Checks each value by itself and against the others.

  Not those of `config.model`, nor what RandAugment's policy admits:
  `training.validate.validate` checks these too.

  Raises:
    UserError: names the key, its value and what it may be.
  """
  _check_sections(config)
  values = {
    key: value
    for key, value in flatten(config).items()
    if not key.startswith('model.')
  }
  _check_names(values)
  for key in SCHEMA.values():
    if key.name not in values:
      raise UserError(
        f'config.{key.name} is missing; its default is {key.default!r}'
      )
    check_value(f'config.{key.name}', values[key.name], key.default, key.ranges)
  for rule in _RULES:
    rule(config)


def unread_options(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the options of other optimizers that differ from their default."""
  return [
    name
    for name, optimizers in READ_BY.items()
    if config.optimizer not in optimizers
    and config[name] != SCHEMA[name].default
  ]


def check_known(
  config: ml_collections.ConfigDict, names: Iterable[str]
) -> None:
  """Checks the values of some keys of `SCHEMA`, of those that a config has.

  Raises:
    UserError: names the key, its value and what it may be.
  """
  values = flatten(config)
  for name in values.keys() & set(names):
    key = SCHEMA[name]
    check_value(f'config.{name}', values[name], key.default, key.ranges)


def changed_keys(
  old: Mapping[str, Any], new: Mapping[str, Any], free: Iterable[str] = ()
) -> list[str]:
  """Returns the keys whose values a running experiment must not change.

  A run that was started before there was a key did what its default means.

  Args:
    old: flattened config the run was started with.
    new: flattened config it is to resume with.
    free: keys that may change besides those that `SCHEMA` has as free.
  """
  free = {*free, *(key.name for key in SCHEMA.values() if key.is_free)}
  if 'num_epochs' in old:  # not of converted weights, which lack most keys
    defaults = {key.name: key.default for key in SCHEMA.values()}
    old = {k: v for k, v in defaults.items() if k in new} | dict(old)
  keys = old.keys() | new.keys()
  if old.get('model.name') != new.get('model.name'):  # so do the fields
    keys = {k for k in keys if k == 'model.name' or k[:6] != 'model.'}
  return [
    key
    for key in sorted(keys - free)
    if (key in old, old.get(key)) != (key in new, new.get(key))
  ]


def _check_sections(config):
  if not isinstance(config, ml_collections.ConfigDict):
    raise UserError(
      f'the config is a {type(config).__name__}, not a ConfigDict; start from '
      'convmixer_jax.config.default_config()'
    )
  sections = {'model'} | {
    name.rpartition('.')[0] for name in SCHEMA if '.' in name
  }
  for name in sorted(sections):
    section = config
    for part in name.split('.'):
      section = section.get(part)
      if not isinstance(section, ml_collections.ConfigDict):
        raise UserError(
          f'config.{name} is {section!r}, not a section of keys; start from '
          'convmixer_jax.config.default_config()'
        )
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict) and name not in sections:
      raise UserError(
        f'config.{name} is not a section of the config; did you mean '
        f'config.{nearest(name, sections)}?'
      )


def _check_names(values):
  for name in values:
    if name not in SCHEMA:
      raise UserError(
        f'config.{name} is not a key of the config; did you mean '
        f'config.{nearest(name, SCHEMA)}?'
      )


def _check_new_head_has_weights(config):
  if config.new_head and not config.init_from:
    raise UserError(
      'config.new_head = True needs config.init_from; set it, or set '
      'config.new_head = False'
    )


def _check_schedule_reads_its_options(config):
  for name, schedules in SCHEDULES_READING.items():
    default = SCHEMA[name].default
    if config.schedule not in schedules and config[name] != default:
      raise UserError(
        f'config.{name} = {config[name]!r} is not read by config.schedule = '
        f'{config.schedule!r}; leave it at {default!r} or choose '
        f'{" or ".join(map(repr, schedules))}'
      )
  if config.warmup_learning_rate and not config.warmup_epochs:
    raise UserError(
      f'config.warmup_learning_rate = {config.warmup_learning_rate} needs '
      'config.warmup_epochs above 0; raise it, or leave out the rate'
    )
  if config.learning_rate_end > config.learning_rate:
    raise UserError(
      f'config.learning_rate_end = {config.learning_rate_end} is above '
      f'config.learning_rate = {config.learning_rate}, from which cosine '
      'decays to it; lower it, or raise config.learning_rate'
    )


def _check_run_has_length(config):
  if not config.num_epochs and not config.num_steps:
    raise UserError(
      'config.num_epochs = 0 and config.num_steps = 0; set one of them'
    )


def _check_optimizer_reads_its_options(config):
  for name in unread_options(config):
    if not name.startswith('adam_'):  # which recipes for AdamW set
      raise UserError(
        f'config.{name} = {config[name]!r} is not read by config.optimizer = '
        f'{config.optimizer!r}; leave it at {SCHEMA[name].default!r} or choose '
        f'{" or ".join(map(repr, READ_BY[name]))}'
      )
  if config.nesterov and not config.momentum:
    raise UserError(
      'config.nesterov = True needs config.momentum above 0; raise it, or set '
      'config.nesterov = False'
    )


def _check_decayed_layers_learn(config):
  if config.layer_lr_decay != 1 and config.backbone_lr_scale == 0:
    raise UserError(
      f'config.layer_lr_decay = {config.layer_lr_decay} has no effect with '
      'config.backbone_lr_scale = 0, by which all but the head is frozen; set '
      'one of them to 1'
    )


def _check_options_have_their_subject(config):
  bce = config.loss == 'binary_cross_entropy' or config.dataset.multi_label
  for name, is_on, needed in (
    ('bce_threshold', bce, "config.loss = 'binary_cross_entropy'"),
    ('ema_warmup_power', config.ema_decay, 'config.ema_decay above 0'),
  ):
    if config[name] and not is_on:
      raise UserError(
        f'config.{name} = {config[name]} needs {needed}; set it, or leave '
        f'config.{name} at 0'
      )


def _check_eval_size_is_for_squares(config):
  size = config.augment.eval_image_size
  if size and not isinstance(config.dataset.image_size, int):
    raise UserError(
      f'config.augment.eval_image_size = {size} is for square images, and '
      f'config.dataset.image_size = {tuple(config.dataset.image_size)}; leave '
      'it at 0'
    )


def _check_statistics_have_one_length(config):
  mean, std = config.dataset.mean, config.dataset.std
  if len(mean) != len(std):
    raise UserError(
      f'config.dataset.mean has {len(mean)} values and config.dataset.std '
      f'{len(std)}; give one of each for every channel (convmixer statistics '
      'prints them)'
    )


def _check_colours_are_rgb(config):
  channels = num_channels(config.dataset)
  if config.augment.rand_augment.num_ops and channels != 3:
    raise UserError(
      f'config.augment.rand_augment.num_ops = '
      f'{config.augment.rand_augment.num_ops} is for RGB images, and '
      f'config.dataset.mean has {channels} channel{"s"[: channels > 1]}: its '
      'operations on colours mean nothing for others; give '
      '--config.augment.rand_augment.num_ops=0'
    )


def _check_on_device_has_the_operations(config):
  ops = config.augment.rand_augment
  needed = {'policy': 'torchvision', 'magnitude_std': 0}
  if not config.input.on_device or not ops.num_ops:
    return
  for name, value in needed.items():
    if ops[name] != value:
      raise UserError(
        'config.input.on_device = True is for RandAugment with policy = '
        "'torchvision' and magnitude_std = 0, and "
        f'config.augment.rand_augment.{name} = {ops[name]!r}; set it to '
        f'{value!r}, or give --config.input.on_device=False'
      )


_RULES: tuple[Callable[[ml_collections.ConfigDict], None], ...] = (
  _check_new_head_has_weights,
  _check_schedule_reads_its_options,
  _check_run_has_length,
  _check_optimizer_reads_its_options,
  _check_decayed_layers_learn,
  _check_options_have_their_subject,
  _check_eval_size_is_for_squares,
  _check_statistics_have_one_length,
  _check_colours_are_rgb,
  _check_on_device_has_the_operations,
)
