"""The weights of a ConvMixer that its paper pictures."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MOST_KERNELS = 64  # of a layer that are shown


def select_kernels(params: Mapping[str, Any]) -> dict[str, jax.Array]:
  """Returns the weights that the paper pictures, of at most 64 channels.

  Of wider networks, channels at even distances. To be jitted with replicated
  results where parameters are split over devices: then only what is selected is
  gathered.

  Args:
    params: of a `ConvMixer`.

  Returns:
    `patch_embedding` `[N, p, p, C]` and `depthwise` `[depth, N, k, k, 1]`.
  """
  patches = params['patch_embedding']['kernel']
  depthwise = params['blocks']['depthwise']['kernel']
  width = patches.shape[-1]
  count = min(width, MOST_KERNELS)
  channels = np.arange(count) * width // count
  return {
    'patch_embedding': jnp.moveaxis(patches[..., channels], -1, 0),
    'depthwise': jnp.moveaxis(depthwise[..., channels], -1, 1)[..., None],
  }
