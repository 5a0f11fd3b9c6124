"""What the exported files have in common: the weights, folded."""

from typing import Any

import jax
import ml_collections
import numpy as np

from convmixer_jax.models.folding import fold


def fold_with_pixels(
  variables: dict[str, Any], config: ml_collections.ConfigDict
) -> dict[str, dict[str, np.ndarray]]:
  """Folds BatchNorm, and the normalisation of pixels from 0 to 255.

  Args:
    variables: `params` and `batch_stats`, on any devices.
    config: `config.dataset`, for `mean` and `std`.

  Returns:
    As `folding.fold`, as NumPy arrays.
  """
  mean, std = (255 * np.array(part) for part in (config.mean, config.std))
  return jax.device_get(fold(jax.device_get(variables), mean, std))
