"""XLA calls that launch the kernels of an instance, on one device."""

import math
from collections.abc import Iterable, Mapping, Set

import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax.kernels.gpu import library
from convmixer_jax.kernels.gpu.instances import Instance, Launch

WORKSPACE = 'workspace'


def run(
  instance: Instance,
  operands: Mapping[str, jax.Array | None],
  results: Mapping[str, jax.ShapeDtypeStruct],
) -> dict[str, jax.Array]:
  """Launches the kernels of an instance, in their order.

  A launch that uses what another wrote follows it, because XLA sees it.

  Args:
    instance: from `instances.instance`.
    operands: arrays by name; None stands for a null pointer.
    results: shapes and dtypes by name, the workspace not included.

  Returns:
    The results by name.
  """
  shapes = dict(results)
  if instance.workspace_bytes:
    shapes[WORKSPACE] = jax.ShapeDtypeStruct(
      (instance.workspace_bytes // 4,), jnp.float32
    )
  arrays = {
    name: array for name, array in operands.items() if array is not None
  }
  nulls = operands.keys() - arrays.keys()
  for launch in instance.launches:
    arrays |= _launch(
      library.module_name(instance), launch, arrays, nulls, shapes
    )
  return {name: arrays[name] for name in results}


def _launch(
  module: str,
  launch: Launch,
  arrays: Mapping[str, jax.Array],
  nulls: Set[str],
  shapes: Mapping[str, jax.ShapeDtypeStruct],
) -> dict[str, jax.Array]:
  """Returns what a launch writes: the arrays that are not there before."""
  names = [name for name in launch.pointers if name in arrays]
  written = [
    name for name in launch.pointers if name not in arrays.keys() | nulls
  ]
  order = names + written
  found = jax.ffi.ffi_call(
    library.HANDLER, tuple(shapes[name] for name in written)
  )(
    *(arrays[name] for name in names),
    module=module,
    entry=launch.entry,
    grid=_int64(launch.grid),
    block=_int64(launch.block),
    shared_bytes=np.int64(launch.shared_bytes),
    pointers=_int64(
      order.index(name) if name in order else -1 for name in launch.pointers
    ),
    bytes=_int64(
      [_num_bytes(arrays[name]) for name in names]
      + [_num_bytes(shapes[name]) for name in written]
    ),
    numbers=_int64(launch.integers),
  )
  return dict(zip(written, found, strict=True))


def _num_bytes(array: jax.Array | jax.ShapeDtypeStruct) -> int:
  return math.prod(array.shape) * array.dtype.itemsize


def _int64(values: Iterable[int]) -> np.ndarray:
  return np.array(list(values), np.int64)
