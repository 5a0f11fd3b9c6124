"""A note on BatchNorm: early in a run its running statistics lag behind."""

import math

from convmixer_jax import config as config_lib
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
