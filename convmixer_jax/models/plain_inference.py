"""Evaluation of a network that has no faster form of its own."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from convmixer_jax.models import stacks


def plain_inference(
  model: nn.Module,
  variables: Mapping[str, Any],
  mean: jax.Array,
  std: jax.Array,
  *,
  pack_weights: bool = False,
  stacked: Sequence[str] = (),
) -> Callable[[jax.Array], jax.Array]:
  """Returns `model.apply` of normalised pixels; see `Architecture.inference`.

  Args:
    model: the network.
    variables: of it.
    mean: of the pixels, `[C]`.
    std: their standard deviation.
    pack_weights: whether to keep each block's weights in arrays of their own,
      where blocks are not a loop. Taking a block out of the stack copies its
      weights in each call, which takes memory and time.
    stacked: see `Architecture`.
  """
  if pack_weights and not getattr(model, 'scan', True):
    variables = {
      name: stacks.unstack(collection, stacked)
      for name, collection in variables.items()
    }
  return jax.tree_util.Partial(_Apply(model), variables, mean, std)


@dataclasses.dataclass(frozen=True)
class _Apply:
  """The function of `plain_inference`; equal ones are compiled once."""

  model: nn.Module

  def __call__(self, variables, mean, std, images):
    images = (images.astype(np.float32) - mean) / std
    return self.model.apply(stacks.stack(variables), images, train=False)
