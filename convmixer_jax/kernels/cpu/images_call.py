"""Calls of the C++ kernels for images, which may be sharded over the batch.

Sharded images are not moved; each device needs the other operands as a whole.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from convmixer_jax.kernels.cpu import library

# What an array is: images `[B, H, W, C]`; the same on each device; sums over
# the images; or room that a function needs while it runs, which is not
# returned.
IMAGES, WHOLE, SUMS, ROOM = 'images', 'whole', 'sums', 'room'

Result = tuple[str, tuple[int, ...]]


def call(
  function: str,
  operands: Sequence[tuple[str, jax.Array]],
  results: Sequence[Result],
  **attributes: Any,
) -> tuple[jax.Array, ...]:
  """Calls a function of the kernels, in float32.

  Args:
    function: its name in `library.py`.
    operands: of each, what it is, and the array.
    results: of each, what it is, and its shape; of images, without the batch.
    **attributes: hashable.

  Returns:
    The results, without rooms.
  """
  kinds, arrays = zip(*operands, strict=True)
  ranks = tuple(array.ndim for array in arrays)
  called = _partitioned(
    function, kinds, ranks, tuple(results), tuple(attributes.items())
  )
  return called(*arrays)


@functools.cache
def _partitioned(function, kinds, ranks, results, attributes):
  returned = [result for result in results if result[0] != ROOM]

  def here(*arrays):
    batch = next(
      (
        array.shape[0]  # which may be a symbol, in an exported program
        for array, kind in zip(arrays, kinds, strict=True)
        if kind == IMAGES
      ),
      None,
    )
    shapes = [
      (batch, *shape) if kind == IMAGES else shape for kind, shape in results
    ]
    found = jax.ffi.ffi_call(
      library.target(function),
      [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
    )(*arrays, **dict(attributes))
    return tuple(
      array
      for array, (kind, _) in zip(found, results, strict=True)
      if kind != ROOM
    )

  def partition(mesh, arguments, result):
    batch = next(
      (
        argument.sharding.spec[0]
        for argument, kind in zip(arguments, kinds, strict=True)
        if kind == IMAGES
      ),
      None,
    )

    def sharding(kind, rank):
      first = batch if kind == IMAGES else None
      return NamedSharding(mesh, P(first, *[None] * (rank - 1)))

    def run(*arrays):
      found = here(*arrays)
      if batch is None:
        return found
      return tuple(
        jax.lax.psum(array, batch) if kind == SUMS else array
        for array, (kind, _) in zip(found, returned, strict=True)
      )

    return (
      mesh,
      run,
      tuple(
        sharding(kind, len(shape) + (kind == IMAGES))
        for kind, shape in returned
      ),
      tuple(map(sharding, kinds, ranks)),
    )

  rule, whole, summed = _sharding_rule(kinds, ranks, returned)
  called = custom_partitioning(here)
  called.def_partition(
    partition,
    sharding_rule=rule,
    need_replication_factors=whole,
    reduction_factors=summed,
  )
  return called


def _sharding_rule(kinds, ranks, returned):
  """Returns Shardy's rule, what is not sharded, and what is summed over."""
  whole = []

  def axes(kind, rank):
    names = []
    for axis in range(rank):
      if kind == IMAGES and axis == 0:
        names.append('b')
      else:
        whole.append(f'f{len(whole)}')
        names.append(whole[-1])
    return ' '.join(names)

  operands = ', '.join(map(axes, kinds, ranks))
  results = ', '.join(
    axes(kind, len(shape) + (kind == IMAGES)) for kind, shape in returned
  )
  is_summed = any(kind == SUMS for kind, _ in returned)
  return f'{operands} -> {results}', tuple(whole), ('b',) if is_summed else ()
