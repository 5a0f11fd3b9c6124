"""The shapes of a network's variables, without computing them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def variable_shapes(model: nn.Module, image_size: int) -> dict[str, Any]:
  """Returns shapes and dtypes of `params` and `batch_stats`, if it has them.

  Args:
    model: the network.
    image_size: side of its square images, in pixels.
  """
  image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
  return jax.eval_shape(
    lambda image: model.init(jax.random.key(0), image, train=False), image
  )
