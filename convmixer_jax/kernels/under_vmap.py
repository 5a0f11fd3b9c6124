"""Operations that have another form under `jax.vmap`."""

import functools
from collections.abc import Callable
from typing import Any

import jax


def except_under_vmap(
  function: Callable[..., Any], mapped_form: Callable[..., Any]
) -> Callable[..., Any]:
  """Returns a function that calls `mapped_form` under `vmap`.

  A call of a kernel is for one batch of images and one set of weights; JAX
  cannot map it.

  Args:
    function: of arrays, or None, and of static keywords; called elsewhere.
    mapped_form: takes and returns the same; of operations that JAX can map.
  """

  @functools.wraps(function)
  def call(*operands, **static):
    mapped = jax.custom_batching.custom_vmap(
      functools.partial(function, **static)
    )

    @mapped.def_vmap
    def _(axis_size, in_batched, *operands):
      axes = jax.tree.map(lambda batched: 0 if batched else None, in_batched)
      form = functools.partial(mapped_form, **static)
      results = jax.vmap(form, axes, axis_size=axis_size)(*operands)
      return results, jax.tree.map(lambda _: True, results)

    return mapped(*operands)

  return call
