"""Stacked parameters as arrays of their own for each block, and back."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Blocks(NamedTuple):
  """The arrays of a stack, one for each block."""

  arrays: tuple[jax.Array, ...]


def unstack(
  params: Mapping[str, Any], stacked: Sequence[str]
) -> dict[str, Any]:
  """Returns parameters with `Blocks` in place of each stack.

  Args:
    params: or other variables, by the names of modules.
    stacked: names of those whose arrays have a leading axis of blocks.
  """
  return {
    name: jax.tree.map(lambda array: Blocks(tuple(array)), tree)
    if name in stacked
    else tree
    for name, tree in params.items()
  }


def stack(tree: Any) -> Any:
  """Returns a tree of arrays, with a stack in place of each `Blocks`.

  XLA takes a block of it from the arrays, and does not build the stack.
  """
  return jax.tree.map(
    lambda leaf: jnp.stack(leaf.arrays) if isinstance(leaf, Blocks) else leaf,
    tree,
    is_leaf=lambda node: isinstance(node, Blocks),
  )


def leaves_in_blocks(tree: Any) -> list[tuple[jax.Array, ...]]:
  """Returns, for each leaf of `stack(tree)`, what is stacked, or itself."""
  leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, Blocks))
  return [
    leaf.arrays if isinstance(leaf, Blocks) else (leaf,) for leaf in leaves
  ]
