"""Inference on uint8 images, which the exported files have in common."""

from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import linen as nn

from convmixer_jax.models import architecture_of


def pixel_statistics(
  config: ml_collections.ConfigDict,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns mean and standard deviation of pixels from 0 to 255.

  Args:
    config: `config.dataset`.
  """
  mean, std = (255 * np.array(part) for part in (config.mean, config.std))
  return mean, std


def inference_on_host(
  model: nn.Module, variables: dict[str, Any], config: ml_collections.ConfigDict
) -> Callable[[jax.Array], jax.Array]:
  """Returns a function from uint8 images to logits, with weights in NumPy.

  Args:
    model: the network.
    variables: `params` and `batch_stats`, on any devices.
    config: `config.dataset`, for `mean` and `std`.
  """
  infer = architecture_of(model).make_inference(
    model, jax.device_get(variables), *pixel_statistics(config)
  )
  return jax.device_get(infer)
