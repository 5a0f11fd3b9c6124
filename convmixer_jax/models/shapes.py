"""The shapes of a network's variables, without computing them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from convmixer_jax.config import ImageSize, height_width


def variable_shapes(
  model: nn.Module, image_size: ImageSize, channels: int = 3
) -> dict[str, Any]:
  """Returns shapes and dtypes of `params` and `batch_stats`, if it has them.

  Args:
    model: the network.
    image_size: side of its images or (height, width), in pixels.
    channels: of these.
  """
  shape = (1, *height_width(image_size), channels)
  image = jax.ShapeDtypeStruct(shape, jnp.float32)
  return jax.eval_shape(
    lambda image: model.init(jax.random.key(0), image, train=False), image
  )
