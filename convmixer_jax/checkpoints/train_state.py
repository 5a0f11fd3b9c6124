"""The state of training: what a step updates and a checkpoint holds."""

import dataclasses
from typing import Any

import flax
import jax
import ml_collections
import optax


@flax.struct.dataclass
class TrainState:
  """All that a training step reads and writes.

  Attributes:
    step: updates made so far, an int32 scalar.
    params: the network's parameters, float32.
    batch_stats: BatchNorm's running statistics, float32; {} without BatchNorm.
    opt_state: the optimizer's state.
    ema: exponential moving averages of `params` and `batch_stats`, by these
      names; {} without `config.ema_decay`.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: optax.OptState
  ema: Any = dataclasses.field(default_factory=dict)

  def saved(self) -> dict[str, Any]:
    """Returns what a checkpoint has: without `ema` if there is none.

    So a run that was started before there were averages can be resumed.
    """
    return {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name != 'ema' or self.ema
    }


def evaluates_ema(config: ml_collections.ConfigDict) -> bool:
  """Whether evaluations of a run are of the average of its parameters.

  Args:
    config: the whole config, which an earlier version may have written.
  """
  return bool(config.get('ema_decay') and config.ema_evaluate)
