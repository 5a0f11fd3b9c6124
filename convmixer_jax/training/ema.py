"""The exponential moving average (EMA) of a network's variables, as timm's.

It has the parameters and the running statistics of BatchNorm. It starts as a
copy of them, and each update moves it towards what they are then.
"""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from convmixer_jax.checkpoints.train_state import TrainState, evaluates_ema


def update(
  ema: dict[str, Any],
  variables: dict[str, Any],
  step: jax.Array,
  config: ml_collections.ConfigDict,
) -> dict[str, Any]:
  """Returns the average after an update.

  Without a warm-up it is that of timm's `ModelEmaV2`; with one, the decay of
  update n (from 0) is at most `1 - (1 + n)**-power`, as of `ModelEmaV3`: so the
  first update replaces the initial values.

  Args:
    ema: `params` and `batch_stats` before it; {} if there is no average.
    variables: `params` and `batch_stats` of the network after it.
    step: the update's number, from 0.
    config: the whole config.
  """
  if not ema:
    return ema
  share: float | jax.Array = 1 - config.ema_decay
  if config.ema_warmup_power:
    updates = 1.0 + step.astype(jnp.float32)
    share = jnp.maximum(share, updates**-config.ema_warmup_power)
  return jax.tree.map(
    lambda mean, value: mean + share * (value - mean), ema, variables
  )


def evaluated_variables(
  state: TrainState, config: ml_collections.ConfigDict
) -> dict[str, Any]:
  """Returns the `params` and `batch_stats` that evaluations are of."""
  if evaluates_ema(config):
    return state.ema
  return {'params': state.params, 'batch_stats': state.batch_stats}
