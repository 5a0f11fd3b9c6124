"""From pixels to logits: the one way in which a trained network is applied."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import linen as nn

from convmixer_jax.models import architecture_of


def make_inference(
  model: nn.Module,
  variables: Any,
  dataset: ml_collections.ConfigDict,
  *,
  pack_weights: bool = False,
) -> Callable[[jax.Array], jax.Array]:
  """Returns evaluation of pixels, in the fast form that a network may have.

  Args:
    model: the network.
    variables: `params` and `batch_stats`.
    dataset: `config.dataset`, for its `mean` and `std` of pixels in [0, 1].
    pack_weights: whether to lay out the weights for many calls.

  Returns:
    A `jax.tree_util.Partial`: a function of images `[B, H, W, 3]` in uint8 that
    returns logits `[B, K]` in float32.
  """
  return architecture_of(model).make_inference(
    model, variables, *pixel_statistics(dataset), pack_weights=pack_weights
  )


def pixel_statistics(
  dataset: ml_collections.ConfigDict,
) -> tuple[jax.Array, jax.Array]:
  """Returns mean and deviation `[3]` of pixels from 0 to 255.

  Args:
    dataset: `config.dataset`, for its `mean` and `std` of pixels in [0, 1].
  """
  return 255 * jnp.float32(dataset.mean), 255 * jnp.float32(dataset.std)
