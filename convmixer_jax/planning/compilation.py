"""Compiles the training step for devices that are absent, and measures it."""

import dataclasses
import math
import re
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.config import image_shape
from convmixer_jax.distributed import sharding
from convmixer_jax.planning import hlo, hlo_costs
from convmixer_jax.training.trainer import create_trainer

_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


class OutOfMemoryError(Exception):
  """The compiler refused: the program needs more memory than the chip has.

  Attributes:
    num_bytes: what it needs, or infinity if that is not said.
  """

  def __init__(self, message: str):
    super().__init__(message)
    needed = re.search(r'\(([\d.]+)([KMGT]?)\) exceeds', message)
    self.num_bytes = (
      float(needed[1]) * _UNITS[needed[2]] if needed else math.inf
    )


@dataclasses.dataclass(frozen=True)
class CompiledStep:
  """Figures of a compiled step, per device.

  Attributes:
    batch_size: images of an update, over all devices.
    memory: bytes by what they hold.
    memory_traffic: see `hlo_costs.memory_traffic`.
    collectives: see `hlo_costs.collectives`.
    xla_flops: operations by XLA's count, which counts a loop's body once;
      None where it does not count.
    compile_seconds: of lowering and compiling.
  """

  batch_size: int
  memory: dict[str, int]
  memory_traffic: int
  collectives: list[hlo_costs.Collective]
  xla_flops: float | None
  compile_seconds: float


def compile_step(
  config: ml_collections.ConfigDict,
  devices: Sequence[Any],
  *,
  num_classes: int,
  steps_per_epoch: int,
) -> CompiledStep:
  """Compiles the step that `loop.py` would run, and measures it.

  Args:
    config: the whole config.
    devices: from `topologies.describe_devices`, or real ones.
    num_classes: outputs of the head.
    steps_per_epoch: updates in an epoch, for the schedule.

  Raises:
    OutOfMemoryError: the compiler found that it cannot fit.
    UserError: a field of the config is out of range.
  """
  mesh = sharding.create_mesh(config.mesh, devices)
  trainer = create_trainer(
    config, mesh, num_classes=num_classes, steps_per_epoch=steps_per_epoch
  )
  shape, at = image_shape(config.dataset), sharding.batch_sharding(mesh)
  batch = {
    'image': jax.ShapeDtypeStruct(
      (config.batch_size, *shape), jnp.uint8, sharding=at
    ),
    'label': jax.ShapeDtypeStruct((config.batch_size,), jnp.int32, sharding=at),
  }
  start = time.perf_counter()
  try:
    compiled = trainer.train_step.lower(trainer.state, batch).compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' in str(error):
      raise OutOfMemoryError(str(error)) from error
    raise
  seconds = time.perf_counter() - start
  module = hlo.parse(compiled.as_text() or '')
  costs = compiled.cost_analysis()
  return CompiledStep(
    batch_size=config.batch_size,
    memory=memory_by_kind(compiled.memory_analysis(), trainer.state),
    memory_traffic=hlo_costs.memory_traffic(module),
    collectives=hlo_costs.collectives(module),
    xla_flops=costs['flops'] if costs else None,
    compile_seconds=seconds,
  )


def memory_by_kind(analysis: Any, state: TrainState) -> dict[str, int]:
  """Returns the compiler's figures by kind of array; see `CompiledStep`.

  Args:
    analysis: `memory_analysis()` of a compiled step.
    state: the shapes of the state, with their shardings. `moving averages` and
      `arrays that stay as drawn`, such as a frozen random map, are named only
      if it has them.
  """
  statistics, others = _split_statistics(state.batch_stats)
  parts = {
    'parameters': sharding.bytes_per_device(state.params),
    'BatchNorm statistics': sharding.bytes_per_device(statistics),
    'optimizer': sharding.bytes_per_device(state.opt_state),
  }
  for name, arrays in (
    ('moving averages', state.ema),
    ('arrays that stay as drawn', others),
  ):
    if num_bytes := sharding.bytes_per_device(arrays):
      parts[name] = num_bytes
  parts['batch, padding'] = analysis.argument_size_in_bytes - sum(
    parts.values()
  )
  parts['activations, temporaries'] = (
    analysis.temp_size_in_bytes
    + analysis.output_size_in_bytes
    - analysis.alias_size_in_bytes
  )
  parts['program'] = analysis.generated_code_size_in_bytes
  return parts


def _split_statistics(batch_stats):
  """Returns the arrays that BatchNorm updates, and all others, as lists."""
  found: tuple[list[Any], list[Any]] = [], []
  for path, array in jax.tree_util.tree_leaves_with_path(batch_stats):
    is_statistic = getattr(path[-1], 'key', None) in ('mean', 'var')
    found[not is_statistic].append(array)
  return found
