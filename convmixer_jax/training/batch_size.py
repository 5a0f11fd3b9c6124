"""Which batch sizes devices, accumulation and groups of images divide."""

import math

import ml_collections

from convmixer_jax.config import uses_mixup
from convmixer_jax.errors import UserError
from convmixer_jax.models import find_architecture


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
  if mixup_group := _mixup_group(config):
    parts.append(f'mixup groups of {mixup_group}')
    unit = math.lcm(unit, mixup_group)
  for name, size in _network_groups(config):
    parts.append(f'{name} of {size}')
    unit = math.lcm(unit, size * config.accum_steps)
  if config.batch_size % unit:
    below = config.batch_size // unit * unit
    nearest = f'{below} and {below + unit}' if below else f'{unit}'
    raise UserError(
      f'config.batch_size = {config.batch_size} does not divide over '
      f'{", ".join(parts)}; the nearest that do: {nearest}'
    )


def least_per_device(config: ml_collections.ConfigDict) -> int:
  """Returns the fewest images with which no group straddles devices."""
  groups = math.lcm(*(size for _, size in _network_groups(config)))
  return math.lcm(_mixup_group(config) or 1, groups * config.accum_steps)


def smallest_group(config: ml_collections.ConfigDict) -> int:
  """Returns the fewest images that a forward pass computes together."""
  microbatch = config.batch_size // config.accum_steps
  return min([microbatch, *(size for _, size in _network_groups(config))])


def _mixup_group(config):
  """Returns how many images share a draw; 0 if all, or if none do."""
  return config.mixup.group_size if uses_mixup(config) else 0


def _network_groups(config):
  """Returns name and size of groups within a forward pass, by field."""
  fields = find_architecture(config.model.name).fields
  return [
    (field.groups, config.model[key])
    for key, field in fields.items()
    if field.groups and config.model[key]
  ]
