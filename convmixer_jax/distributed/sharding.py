"""The device mesh, `data` x `fsdp`, and how arrays are sharded over it.

The batch is split over both axes; parameters and optimizer state over `fsdp`,
and gathered where they are used: those of a stack of blocks in each block.
"""

import dataclasses
import math
from collections.abc import Collection, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from convmixer_jax.errors import UserError

_REPLICATE_BELOW = 2**14  # elements; splitting less saves nothing


def create_mesh(
  config: ml_collections.ConfigDict,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """Lays devices out as `data` x `fsdp`.

  Args:
    config: `config.mesh`; `data = -1` takes the devices that `fsdp` leaves.
    devices: None for those of all processes.

  Raises:
    UserError: the product is not the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  num_devices = len(devices)
  data = config.data
  if data == -1:
    data = max(num_devices // config.fsdp, 1)
  if data * config.fsdp != num_devices:
    raise UserError(
      f'config.mesh: data = {config.data} x fsdp = {config.fsdp} does not lay '
      f'out the {num_devices} devices here; data x fsdp must be {num_devices}'
    )
  # Auto: the partitioner follows the shardings of the step's arguments.
  return jax.make_mesh(
    (data, config.fsdp),
    ('data', 'fsdp'),
    axis_types=(AxisType.Auto,) * 2,
    devices=devices,
  )


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Splits the first axis over all devices."""
  return NamedSharding(mesh, PartitionSpec(('data', 'fsdp')))


def replicated(mesh: Mesh) -> NamedSharding:
  """Puts a copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def state_sharding(
  mesh: Mesh, state: Any, stacked: Collection[str] = ()
) -> Any:
  """Splits each large array of `state` over `fsdp`, along its largest axis.

  Args:
    mesh: from `create_mesh`.
    state: a tree of arrays, or of their shapes.
    stacked: modules whose arrays have a leading axis of blocks. It is never
      the one that is split, so that a device holds a part of each block.

  Returns:
    A tree of shardings. Arrays that are small or that `fsdp` does not divide
    are replicated.
  """

  def of(path, array):
    return _split(mesh, array.shape, int(_is_stacked(path, stacked)))

  return jax.tree_util.tree_map_with_path(of, state)


def _split(mesh, shape, first=0):
  """Returns the sharding of an array; axes before `first` are not split."""
  fsdp = mesh.shape['fsdp']
  axes = [i for i in range(first, len(shape)) if shape[i] % fsdp == 0]
  if fsdp == 1 or math.prod(shape) < _REPLICATE_BELOW or not axes:
    return replicated(mesh)
  largest = max(axes, key=lambda i: shape[i])
  return NamedSharding(mesh, PartitionSpec(*[None] * largest, 'fsdp'))


def _is_stacked(path, stacked):
  return any(
    isinstance(key, jax.tree_util.DictKey) and key.key in stacked
    for key in path
  )


@dataclasses.dataclass(frozen=True)
class Gather:
  """Puts whole parameters on every device, for use: maps a tree to another.

  The gradient goes back to where they came from: each device gets the sum of
  its own part. Without it, the partitioner may split activations by channels,
  as the parameters are, and move those between devices instead.

  Attributes:
    mesh: from `create_mesh`.
    stacked: as in `state_sharding`. Their large arrays are left as they are:
      each block has to gather its own, by a `Gather` without `stacked`.
  """

  mesh: Mesh
  stacked: tuple[str, ...] = ()

  def __call__(self, params: Any) -> Any:
    """Gathers what the mesh splits; other arrays are left as they are."""

    def of(path, array):
      if not _is_stacked(path, self.stacked):
        split = _split(self.mesh, array.shape)
      elif _split(self.mesh, array.shape[1:]).is_fully_replicated:
        split = _split(self.mesh, array.shape, 1)
      else:
        return array
      return array if split.is_fully_replicated else _gather(array, split)

    return jax.tree_util.tree_map_with_path(of, params)


def _make_whole(array, split):
  return jax.lax.with_sharding_constraint(array, replicated(split.mesh))


def _scatter(split, _, gradient):
  # Whole first: a split result would have the partitioner split activations.
  gradient = _make_whole(gradient, split)
  return (jax.lax.with_sharding_constraint(gradient, split),)


_gather = jax.custom_vjp(_make_whole, nondiff_argnums=(1,))
_gather.defvjp(lambda *arguments: (_make_whole(*arguments), None), _scatter)


def split_batch(batch: Any, mesh: Mesh) -> Any:
  """Keeps the first axis of traced arrays split over all devices.

  Without it, what mixes images of several devices would have the partitioner
  put more of the batch on each, for all that follows.

  Args:
    batch: a tree of arrays, `[B, ...]`.
    mesh: from `create_mesh`. For one of a single device, nothing is done.
  """
  if mesh.size == 1:
    return batch
  return jax.lax.with_sharding_constraint(batch, batch_sharding(mesh))


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Makes global arrays from each process's rows of a batch."""
  sharding = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, rows)
    for name, rows in batch.items()
  }


def with_sharding(shapes: Any, shardings: Any) -> Any:
  """Returns the tree of shapes with each leaf's sharding, for a restore."""
  return jax.tree.map(
    lambda array, at: jax.ShapeDtypeStruct(
      array.shape, array.dtype, sharding=at
    ),
    shapes,
    shardings,
  )


def bytes_per_device(tree: Any) -> int:
  """Returns what arrays, or shapes, with shardings take on each device."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )
