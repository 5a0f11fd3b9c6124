"""Reads a checkpoint as anybody with Orbax would, whatever devices wrote it."""

import pathlib

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding


def read_state(workdir: pathlib.Path, step: int) -> dict:
  """Returns the state after `step`, as a tree of dicts and arrays."""
  path = pathlib.Path(workdir) / 'checkpoints' / str(step) / 'state'
  here = SingleDeviceSharding(jax.devices()[0])
  with ocp.StandardCheckpointer() as checkpointer:
    shapes = checkpointer.metadata(path).item_metadata
    return checkpointer.restore(
      path,
      jax.tree.map(
        lambda array: jax.ShapeDtypeStruct(
          array.shape, array.dtype, sharding=here
        ),
        shapes,
      ),
    )
