"""The GPU kernels as functions that XLA can partition over devices.

XLA knows nothing about a foreign call, and would gather a sharded batch for it.
So each declares how it is partitioned: images and channels are independent, and
sums over images are added over the devices, in float32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from convmixer_jax.kernels.gpu import calls, instances, library

# Axes of each array: batch, height, width, channels; of the kernel; of sums.
_AXES = {
  'x': 'b h w c',
  'dy': 'b h w c',
  'kernel': 'i j c',
  'bias': 'c',
  'factor': 'c',
  'residual': 'b h w c',
  'z': 'b h w c',
  'coefficients': 'p c',
  'y': 'b h w c',
  'sums': 's c',
}
# Of arrays that are not bfloat16, like images.
_FLOAT32 = 'factor', 'coefficients'


def wrap(
  kind: str, operands: Sequence[str], results: Sequence[str]
) -> Callable[..., Any]:
  """Returns a function of arrays that calls a kernel on each device.

  Args:
    kind: one of `instances.KINDS`.
    operands: names of the arrays that it takes, as in `instances.instance`; x
      is the first.
    results: names of the arrays that it returns.

  Returns:
    A function of the arrays, then the size of the kernel, `pad_before` and the
    epilogue, as `instances.instance` takes them. It raises TypeError for an
    array of another dtype than kernels read: they would take its bits for
    other numbers.
  """

  def here(*arguments):
    *arrays, size, pad_before, epilogue = arguments
    x = arrays[0]
    for name, array in zip(operands, arrays, strict=True):
      dtype = jnp.float32 if name in _FLOAT32 else jnp.bfloat16
      if array.dtype != dtype:
        raise TypeError(
          f'{kind}: {name} is {array.dtype}; cast it to {jnp.dtype(dtype)}'
        )
    shapes = {
      'y': jax.ShapeDtypeStruct(x.shape, x.dtype),
      'dy': jax.ShapeDtypeStruct(x.shape, x.dtype),
      'sums': jax.ShapeDtypeStruct(
        (2 if kind == 'forward' else size * size + 1, x.shape[-1]), jnp.float32
      ),
    }
    given: dict[str, Any] = {'bias': None} if kind == 'forward' else {}
    found = calls.run(
      instances.instance(
        kind,
        x.shape,
        size,
        pad_before,
        epilogue,
        shared_bytes=library.shared_bytes(),
      ),
      given | dict(zip(operands, arrays, strict=True)),
      {name: shapes[name] for name in results},
    )
    return _only(tuple(found[name] for name in results))

  def partition(size, pad_before, epilogue, mesh, arguments, result):
    how = size, pad_before, epilogue
    batch, channels = _sharded(arguments[0], mesh, kind, how)
    names = {'b': batch, 'c': channels}

    def sharding(array):
      axes = _AXES[array].split()
      return NamedSharding(mesh, P(*(names.get(axis) for axis in axes)))

    def run(*arrays):
      found = here(*arrays, *how)
      if batch is None or 'sums' not in results:
        return found
      *rest, sums = (found,) if len(results) == 1 else found
      return _only((*rest, jax.lax.psum(sums, batch)))

    return (
      mesh,
      run,
      _only(tuple(map(sharding, results))),
      tuple(map(sharding, operands)),
    )

  count = len(operands)
  wrapped = custom_partitioning(
    here, static_argnums=(count, count + 1, count + 2)
  )
  axes = [
    ', '.join(_AXES[name] for name in side) for side in (operands, results)
  ]
  used = dict.fromkeys(' '.join(axes).replace(',', '').split())  # in order
  wrapped.def_partition(
    partition,
    sharding_rule=' -> '.join(axes),
    reduction_factors=('b',) if 'y' not in results else (),
    need_replication_factors=tuple(axis for axis in used if axis not in 'bc'),
  )
  return wrapped


def _only(values):
  return values if len(values) > 1 else values[0]


def _sharded(x, mesh, kind, how):
  """Returns the mesh axes of B and C; a device needs all rows and columns.

  C stays whole if there is no kernel for a device's share of the channels.
  """
  batch, _, _, channels = x.sharding.spec
  sharding = NamedSharding(mesh, P(batch, None, None, channels))
  if instances.supported(kind, sharding.shard_shape(x.shape), *how):
    channels = None
  return batch, channels
