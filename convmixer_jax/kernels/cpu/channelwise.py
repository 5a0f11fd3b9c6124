"""C++ kernels of images in which images and channels are independent.

Sharded ones are then not moved: each device calls the kernel for its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from convmixer_jax.kernels.cpu import library

# The axes of the layouts, as Shardy names them.
_AXES = {
  'images': 'b h w c',
  'channels': 'c',
  'rows': 'b c',
  'pairs': 'b s c',
}


def wrap(
  function: str,
  operands: Sequence[str],
  results: Sequence[str],
  aliases: Mapping[int, int] | None = None,
) -> Callable[..., Any]:
  """Wraps a kernel, for any sharding of images and channels.

  The layouts are 'images' `[B, H, W, C]`, 'channels' `[C]`, 'rows' `[B, C]` and
  'pairs' `[B, 2, C]`. Images that are results have the dtype of the first
  operand, which has to be images; other results are float32.

  Args:
    function: of the kernels; see `library.target`.
    operands: the layout of each.
    results: the layout of each.
    aliases: by the number of an operand, that of the result that is written
      over it, if nothing reads the operand afterwards.

  Returns:
    A function of the operands and, last, of the attributes: a tuple of pairs of
    a name and a NumPy scalar or bool. It returns the results as a tuple, or the
    only one.
  """

  def only(values):
    return values if len(values) > 1 else values[0]

  def here(*arguments):
    *arrays, attributes = arguments
    x = arrays[0]
    shapes = {
      'images': jax.ShapeDtypeStruct(x.shape, x.dtype),
      'rows': jax.ShapeDtypeStruct((x.shape[0], x.shape[-1]), jnp.float32),
      'pairs': jax.ShapeDtypeStruct((x.shape[0], 2, x.shape[-1]), jnp.float32),
    }
    found = jax.ffi.ffi_call(
      library.target(function),
      tuple(shapes[layout] for layout in results),
      input_output_aliases=aliases,
    )(*arrays, **dict(attributes))
    return only(tuple(found))

  def partition(attributes, mesh, arguments, result):
    batch, _, _, channels = arguments[0].sharding.spec
    specs = {
      'images': P(batch, None, None, channels),
      'channels': P(channels),
      'rows': P(batch, channels),
      'pairs': P(batch, None, channels),
    }

    def sharding(layout):
      return NamedSharding(mesh, specs[layout])

    return (
      mesh,
      lambda *arrays: here(*arrays, attributes),
      only(tuple(map(sharding, results))),
      tuple(map(sharding, operands)),
    )

  wrapped = custom_partitioning(here, static_argnums=(len(operands),))
  rule = ' -> '.join(
    ', '.join(_AXES[layout] for layout in layouts)
    for layouts in (operands, results)
  )
  wrapped.def_partition(
    partition, sharding_rule=rule, need_replication_factors=('h', 'w')
  )
  return wrapped
