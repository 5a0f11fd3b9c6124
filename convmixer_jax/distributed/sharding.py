"""The device mesh, `data` x `fsdp`, and how arrays are sharded over it.

The batch is split over both axes; parameters and optimizer state over `fsdp`,
and gathered where they are used.
"""

import math
from collections.abc import Callable, Sequence
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


def state_sharding(mesh: Mesh, state: Any) -> Any:
  """Splits each large array of `state` over `fsdp`, along its largest axis.

  Args:
    mesh: from `create_mesh`.
    state: a tree of arrays, or of their shapes.

  Returns:
    A tree of shardings. Arrays that are small or that `fsdp` does not divide
    are replicated.
  """
  fsdp = mesh.shape['fsdp']

  def of(array) -> NamedSharding:
    axes = [i for i, n in enumerate(array.shape) if n % fsdp == 0]
    if fsdp == 1 or array.size < _REPLICATE_BELOW or not axes:
      return replicated(mesh)
    largest = max(axes, key=lambda i: array.shape[i])
    spec = [None] * largest + ['fsdp']
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree.map(of, state)


def create_gather(mesh: Mesh, split: Any) -> Callable[[Any], Any]:
  """Returns a function that puts whole parameters on every device, for use.

  The gradient goes back to where they came from: each device gets the sum of
  its own part. Without it, the partitioner may split activations by channels,
  as the parameters are, and move those between devices instead.

  Args:
    mesh: from `create_mesh`.
    split: how the parameters lie, from `state_sharding`.
  """
  if mesh.shape['fsdp'] == 1:
    return lambda params: params
  everywhere = replicated(mesh)

  @jax.custom_vjp
  def gather(params):
    return jax.lax.with_sharding_constraint(params, everywhere)

  gather.defvjp(
    lambda params: (gather(params), None),
    lambda _, g: (jax.lax.with_sharding_constraint(g, split),),
  )
  return gather


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
