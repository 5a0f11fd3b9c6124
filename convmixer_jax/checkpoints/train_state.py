"""The state of training: what a step updates and a checkpoint holds."""

from typing import Any

import flax
import jax
import optax


@flax.struct.dataclass
class TrainState:
  """All that a training step reads and writes.

  Attributes:
    step: updates made so far, an int32 scalar.
    params: the network's parameters, float32.
    batch_stats: BatchNorm's running statistics, float32; {} without BatchNorm.
    opt_state: the optimizer's state.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: optax.OptState
