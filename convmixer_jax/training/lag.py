"""Notes early in a run: running statistics, and averages, lag behind."""

import math

from convmixer_jax import config as config_lib
from convmixer_jax.checkpoints.train_state import evaluates_ema
from convmixer_jax.models import architecture_of
from convmixer_jax.models.batch_norm import statistics_momentum
from convmixer_jax.training.setup import Setup

_NEGLIGIBLE = 0.01  # share of the initial values in the statistics
_MOST_UPDATES = 1000  # after which no usual momentum leaves more


def describe_lag(setup: Setup, step: int) -> str | None:
  """Returns a note if an evaluation after `step` says little for this reason.

  Evaluation normalises by running statistics, which begin as mean 0 and
  variance 1, and of which each update replaces a tenth, or what the network
  chooses.

  Args:
    setup: of the run. One that starts from trained weights has their
      statistics.
    step: updates made.

  Returns:
    None for networks without running statistics, and once their initial values
    hardly count.
  """
  config, state = setup.config, setup.trainer.state
  if not state.batch_stats or config.init_from or step > _MOST_UPDATES:
    return None
  momentum = statistics_momentum(
    setup.trainer.model,
    config.dataset.image_size,
    config_lib.num_channels(config.dataset),
  )
  if not momentum:
    return None
  share = momentum**step
  if share < _NEGLIGIBLE:
    return None
  enough = math.ceil(math.log(_NEGLIGIBLE) / math.log(momentum))
  return (
    f"Note: after {step} updates {100 * share:.0f} % of BatchNorm's running "
    'statistics, which evaluation uses, still come from their initial values: '
    f'expect low accuracy in evaluations before about step {enough}'
  )


def describe_ema_lag(setup: Setup, step: int) -> str | None:
  """Returns a note if an evaluation of the EMA says little after `step`.

  Args:
    setup: of the run.
    step: updates made.

  Returns:
    None if there is no average, it does not begin with initial values that are
    random, as those of a new head, or these hardly count.
  """
  config = setup.config
  if not evaluates_ema(config):
    return None
  if config.init_from:
    head = architecture_of(setup.trainer.model).head
    if head in setup.pretrained.get('params', {head}):
      return None
  share = config.ema_decay**step
  if config.ema_warmup_power or share < _NEGLIGIBLE:
    return None
  enough = math.ceil(math.log(_NEGLIGIBLE) / math.log(config.ema_decay))
  return (
    f'Note: after {step} updates {100 * share:.0f} % of the average of the '
    'parameters, which is evaluated, still come from their initial values: '
    f'expect low accuracy in evaluations before about step {enough}; '
    'config.ema_warmup_power = 0.75 would leave them out'
  )
