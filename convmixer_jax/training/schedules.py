"""Schedules of the learning rate: triangular, cosine, step and constant."""

import jax.numpy as jnp
import ml_collections
import optax

from convmixer_jax.errors import UserError


def create_schedule(
  config: ml_collections.ConfigDict, steps_per_epoch: int, num_steps: int
) -> optax.Schedule:
  """Returns the learning rate of each update, by its number from 0.

  'triangular', of ConvMixer's authors: up to the peak until 2/5 of the epochs,
  down to a twentieth of it until 4/5, down to 0, turning at whole epochs
  (rounded down) where there are at least five; an update has the rate of the
  end of its step, so the last has 0.

  The others are as timm's schedulers: a linear warm-up of `warmup_epochs` from
  `warmup_learning_rate`, then 'cosine' down to `learning_rate_end`, which it
  would have at update `num_steps`; 'step', times `step_factor` after each
  `step_epochs`; or 'constant'. An update has the rate of the beginning of its
  step or, with `schedule_per_epoch`, of its epoch.

  Args:
    config: the whole config.
    steps_per_epoch: updates in an epoch.
    num_steps: updates in the whole run.

  Raises:
    UserError: the run ends before the warm-up does.
  """
  if config.schedule == 'triangular':
    return _triangular(config, steps_per_epoch, num_steps)
  peak = config.learning_rate
  warmup_steps = round(config.warmup_epochs * steps_per_epoch)
  if warmup_steps >= num_steps:
    raise UserError(
      f'config.warmup_epochs = {config.warmup_epochs} takes {warmup_steps} '
      f'steps, and the run has {num_steps}; warm up for less, or train for '
      'longer'
    )
  begin = warmup_steps if config.warmup_prefix else 0
  if config.schedule == 'cosine':
    decay = optax.cosine_decay_schedule(
      peak, num_steps - begin, config.learning_rate_end / peak if peak else 0.0
    )
  elif config.schedule == 'step':
    decay = optax.exponential_decay(
      peak,
      max(round(config.step_epochs * steps_per_epoch), 1),
      config.step_factor,
      staircase=True,
    )
  else:
    decay = optax.constant_schedule(peak)
  schedule = decay
  if warmup_steps:
    warmup = optax.linear_schedule(
      config.warmup_learning_rate, peak, warmup_steps
    )

    def schedule(step):
      return jnp.where(step < warmup_steps, warmup(step), decay(step - begin))

  if not config.schedule_per_epoch:
    return schedule
  return lambda step: schedule(step // steps_per_epoch * steps_per_epoch)


def _triangular(config, steps_per_epoch, num_steps):
  peak, epochs = config.learning_rate, config.num_epochs
  if config.num_steps or epochs < 5:  # too few to turn at whole ones
    turns = [0, num_steps * 2 // 5, num_steps * 4 // 5, num_steps]
  else:
    turns = [0, epochs * 2 // 5, epochs * 4 // 5, epochs]
    turns = [epoch * steps_per_epoch for epoch in turns]
  rates = [0, peak, peak / 20, 0]
  return lambda step: jnp.interp(
    step + 1.0, jnp.array(turns, jnp.float32), jnp.array(rates, jnp.float32)
  )
