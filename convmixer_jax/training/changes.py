"""What a run does differently from here on, when its length was changed."""

import math

import ml_collections
import numpy as np
from etils import epath

from convmixer_jax.config import SCHEMA, flatten, num_train_steps
from convmixer_jax.errors import UserError
from convmixer_jax.training.schedules import create_schedule

_SAMPLES = 100  # of the steps that are left


def require_not_shorter(
  workdir: epath.Path,
  step: int,
  config: ml_collections.ConfigDict,
  steps_per_epoch: int,
) -> None:
  """Raises UserError if a run has made more steps than the config gives it.

  Args:
    workdir: of the run.
    step: of its newest checkpoint.
    config: the config that it resumes with.
    steps_per_epoch: updates in an epoch.
  """
  num_steps = num_train_steps(config, steps_per_epoch)
  if step <= num_steps:
    return
  key, least = 'num_steps', step
  if not config.num_steps:
    key, least = 'num_epochs', math.ceil(step / steps_per_epoch)
  raise UserError(
    f'the run in {workdir} is at step {step}, and config.{key} = {config[key]} '
    f'would end it at step {num_steps}; give at least {least}, or a new '
    '--workdir'
  )


def describe_changes(
  recorded: ml_collections.ConfigDict,
  config: ml_collections.ConfigDict,
  step: int,
  steps_per_epoch: int,
) -> str | None:
  """Returns a line about the learning rate, or None if it stays as it was.

  Args:
    recorded: the config that the run was last started with.
    config: the config that it resumes with.
    step: that it resumes from.
    steps_per_epoch: updates in an epoch.
  """
  known, new = flatten(recorded), flatten(config)
  old = {  # an earlier version may lack a key
    key.name: known.get(key.name, key.default)
    for key in SCHEMA.values()
    if key.changes
  }
  old = {name: value for name, value in old.items() if value != new[name]}
  if not old:
    return None
  changed = ', '.join(f'config.{k} {old[k]} -> {new[k]}' for k in old)
  recorded = config.copy_and_resolve_references()
  recorded.update_from_flattened_dict(old)
  before, after = (
    num_train_steps(c, steps_per_epoch) for c in (recorded, config)
  )
  if after == step:
    return None
  samples = np.linspace(step, after - 1, _SAMPLES).astype(int)
  old_rates, new_rates = (
    np.broadcast_to(
      create_schedule(c, steps_per_epoch, length)(samples), samples.shape
    )
    for c, length in ((recorded, before), (config, after))
  )
  differs = old_rates != new_rates
  # A schedule that had ended says nothing of the steps that were added.
  if not np.any(differs & (samples < before)) and np.all(
    new_rates[samples >= before] == old_rates[0]
  ):
    return None
  return (
    f'The run has {after} steps now, not {before} ({changed}): from step '
    f'{step + 1} on the learning rate is that of a run of {after} steps, at '
    f'first {new_rates[0]:.3g}, not {old_rates[0]:.3g}; earlier steps had that '
    f'of a run of {before}'
  )
