"""Numbers the layers of a network: embedding 0, blocks from 1, head last."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from convmixer_jax.errors import UserError
from convmixer_jax.models.architecture import Architecture


def number_layers(
  architecture: Architecture, params: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """Returns the number of the layer that each parameter belongs to.

  As timm's `param_groups_layer_decay` counts: what comes before the blocks is
  0, what comes between blocks and head belongs to the last block.

  Args:
    architecture: of the network. It needs `stacked` and `before_blocks`.
    params: its parameters, or their shapes.

  Returns:
    By name of the top level of `params`, int: `[depth]` for a stack of blocks,
    else a scalar.

  Raises:
    UserError: the network has no stacked blocks, or does not name what comes
      before them.
  """
  if not architecture.stacked or architecture.before_blocks is None:
    raise UserError(
      'config.layer_lr_decay is for networks of stacked blocks, and '
      f'{architecture.module.__name__} names none; leave it at 1, or give '
      'Architecture(stacked=, before_blocks=)'
    )
  numbers: dict[str, np.ndarray] = {}
  last = 0
  for name in architecture.blocks or architecture.stacked:
    if name not in params:
      continue
    if name not in architecture.stacked:
      last += 1
      numbers[name] = np.asarray(last)
      continue
    depth = jax.tree.leaves(params[name])[0].shape[0]
    numbers[name] = np.arange(last + 1, last + depth + 1)
    last += depth
  for name in params:
    if name in architecture.before_blocks:
      numbers[name] = np.asarray(0)
    elif name == architecture.head:
      numbers[name] = np.asarray(last + 1)
    elif name not in numbers:
      numbers[name] = np.asarray(last)
  return numbers
