"""Trains on one batch again and again: a test of network, labels and rate."""

from collections.abc import Iterator

import jax
import ml_collections
import numpy as np

from convmixer_jax.config import SCHEMA
from convmixer_jax.config.optimizer_keys import SCHEDULES_READING
from convmixer_jax.data import pipeline
from convmixer_jax.distributed import sharding
from convmixer_jax.errors import UserError
from convmixer_jax.jax_settings import default_settings
from convmixer_jax.training.trial import create_state, scratch_setup

DEFAULT_STEPS = 300
ENOUGH = 0.01  # the loss at which every image has its label


def without_augmentation(
  config: ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """Returns the config for one batch: hard labels, a constant learning rate.

  The loss of images with one class is the cross-entropy.

  Random layers, such as drop path, stay as they are.

  Args:
    config: the whole config. Its `num_steps` is the limit, or `DEFAULT_STEPS`.
  """
  config = config.copy_and_resolve_references()
  config.num_steps = config.num_steps or DEFAULT_STEPS
  config.schedule = 'constant'
  for name in SCHEDULES_READING:
    config[name] = SCHEMA[name].default
  # The mean over classes is small as soon as all outputs are negative.
  config.loss, config.bce_threshold = 'cross_entropy', 0.0
  config.label_smoothing = config.erasing.probability = 0.0
  config.mixup.mixup_alpha = config.mixup.cutmix_alpha = 0.0
  return config


def overfit_one_batch(
  config: ml_collections.ConfigDict,
) -> Iterator[tuple[int, float]]:
  """Trains on the first batch without augmentation; nothing is written.

  Args:
    config: the whole config, from `without_augmentation`.

  Yields:
    The number of each step and its loss, until that is `ENOUGH`.

  Raises:
    UserError: the config or the data is wrong, the loss is not finite, or it
      does not fall to `ENOUGH`.
  """
  with default_settings(), scratch_setup(config) as setup:
    config = setup.config
    state = create_state(setup)
    batch = pipeline.first_batch(
      setup.train_source,
      config,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    batch = sharding.to_global(batch, setup.mesh)
    first = loss = float('nan')
    for step in range(1, config.num_steps + 1):
      state, metrics = setup.trainer.train_step(state, batch)
      metrics = jax.device_get(metrics)
      loss = float(metrics.compute()['train_loss'])
      yield step, loss
      first = loss if step == 1 else first
      if not np.isfinite(loss):
        raise UserError(
          f'the loss of one batch is not finite in step {step}; lower '
          f'config.learning_rate = {config.learning_rate}'
        )
      if loss <= ENOUGH:
        return
  raise UserError(
    f'one batch was not learned: its loss was {first:.4f} in step 1 and '
    f'{loss:.4f} in step {config.num_steps}, not {ENOUGH} or less; try another '
    'config.learning_rate (convmixer find_learning_rate), more steps '
    '(config.num_steps), or look at the images and labels'
  )
