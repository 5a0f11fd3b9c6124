"""Layer-wise decay of the learning rate: lower layers learn more slowly."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from convmixer_jax.models.architecture import Architecture
from convmixer_jax.models.layer_numbers import number_layers


def layer_scales(
  architecture: Architecture, params: Mapping[str, Any], decay: float
) -> dict[str, np.ndarray]:
  """Returns the factor of the learning rate of each layer.

  It is `decay` to the power of the distance from the head, whose factor is 1.

  Args:
    architecture: of the network.
    params: its parameters, or their shapes.
    decay: `config.layer_lr_decay`.

  Returns:
    By name of the top level of `params`, float32: `[depth]` for a stack of
    blocks, else a scalar.

  Raises:
    UserError: see `number_layers`.
  """
  numbers = number_layers(architecture, params)
  head = numbers[architecture.head]
  return {
    name: np.asarray(decay ** (head - number).astype(float), np.float32)
    for name, number in numbers.items()
  }


def scale_by_layer(
  architecture: Architecture, decay: float
) -> optax.GradientTransformation:
  """Returns the transformation that multiplies updates by `layer_scales`.

  Raises:
    UserError: see `number_layers`; by `init`.
  """

  def init(params):
    number_layers(architecture, params)
    return optax.EmptyState()

  def update(updates, state, params=None):
    del params
    scales = layer_scales(architecture, updates, decay)
    scaled = {
      name: jax.tree.map(partial(_multiply, scales[name]), tree)
      for name, tree in updates.items()
    }
    return scaled, state

  return optax.GradientTransformation(init, update)


def _multiply(scale, array):
  """Multiplies an array, or each block of a stack."""
  return array * scale.reshape(scale.shape + (1,) * (array.ndim - scale.ndim))
