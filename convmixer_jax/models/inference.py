"""From pixels to logits: the one way in which a trained network is applied.

`config.dataset.mean` and `std` are of values in [0, 1]: those of uint8 images
divided by 255, those of uint16 ones by 65,535. Those of float32 images are
taken as they are.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import linen as nn

from convmixer_jax.models import architecture_of


def make_inference(
  model: nn.Module,
  variables: Any,
  dataset: ml_collections.ConfigDict,
  *,
  pack_weights: bool = False,
  dtype: np.dtype | str = 'uint8',
) -> Callable[[jax.Array], jax.Array]:
  """Returns evaluation of pixels, in the fast form that a network may have.

  Args:
    model: the network.
    variables: `params` and `batch_stats`.
    dataset: `config.dataset`, for its `mean` and `std`.
    pack_weights: whether to lay out the weights for many calls.
    dtype: of the images: uint8, uint16 or float32.

  Returns:
    A `jax.tree_util.Partial`: a function of images `[B, H, W, C]` that returns
    logits `[B, K]` in float32.
  """
  make = architecture_of(model).make_inference
  mean, std = pixel_statistics(dataset)
  if np.dtype(dtype) == np.uint8:
    return make(model, variables, mean, std, pack_weights=pack_weights)
  # Folded into the first layer, a mean that is far from 0 would be subtracted
  # in the precision of that layer.
  classify = make(
    model,
    variables,
    jnp.zeros_like(mean),
    jnp.ones_like(std),
    pack_weights=pack_weights,
  )
  return jax.tree_util.Partial(_classify_normalized, classify, mean, std)


def _classify_normalized(classify, mean, std, images):
  return classify((to_pixels(images) - mean) / std)


def to_pixels(images: jax.Array) -> jax.Array:
  """Returns images in float32, in units in which uint8 has 0 to 255."""
  values = images.astype(jnp.float32)
  if images.dtype == jnp.uint8:
    return values
  return values / 257 if images.dtype == jnp.uint16 else values * 255


def pixel_statistics(
  dataset: ml_collections.ConfigDict,
) -> tuple[jax.Array, jax.Array]:
  """Returns mean and deviation `[C]` in units in which uint8 has 0 to 255.

  Args:
    dataset: `config.dataset`, for its `mean` and `std`.
  """
  return 255 * jnp.float32(dataset.mean), 255 * jnp.float32(dataset.std)
