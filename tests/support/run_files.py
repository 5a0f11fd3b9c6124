"""Reads the files of a run: checkpoints as Orbax does, and metrics.csv."""

import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import SingleDeviceSharding

from convmixer_jax.checkpoints.metrics_table import read_table

SPEED = {'steps_per_sec', 'images_per_sec'}


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


def read_rows(workdir):
  """Returns the rows of metrics.csv without what differs between runs."""
  rows = read_table(epath.Path(workdir) / 'metrics.csv').values()
  return [
    {name: value for name, value in row.items() if name not in SPEED}
    for row in rows
  ]


def assert_identical(a, b):
  """Compares two trees of arrays bit for bit."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)
