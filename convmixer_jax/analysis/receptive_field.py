"""What a trained network has learnt, as arrays; `plots` draws them.

Kernels worth looking at are selected by each network: `Architecture.pictures`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def effective_receptive_fields(
  model: nn.Module, variables: Mapping[str, Any], images: jax.Array
) -> jax.Array:
  """Returns how much the centre of each block's output heeds each pixel.

  The gradient of the output at the centre, summed over its channels, with
  respect to the image; its absolute value, averaged over images and colours
  (Luo et al., arXiv 1701.04128). On a grid of even side, the centre is the
  place below and to the right of the middle.

  Args:
    model: the network, whose blocks' outputs `[B, h, w, C]` have one shape;
      evaluated with its running statistics.
    variables: its `params` and `batch_stats`.
    images: `[B, H, W, 3]`, normalised.

  Returns:
    `[depth, H, W]`, float32.
  """

  def centres(images):
    _, state = model.apply(
      variables, images, train=False, mutable=['intermediates']
    )
    (outputs,) = state['intermediates']['blocks']['output']
    rows, columns = outputs.shape[2:4]
    centre = outputs[:, :, rows // 2, columns // 2]
    return centre.astype(jnp.float32).sum(axis=(1, 2))  # [depth]

  @jax.jit
  def gradients(images):
    _, pull_back = jax.vjp(centres, images)
    # One block after another: together they would need `depth` times the
    # memory.
    (by_block,) = jax.lax.map(pull_back, jnp.eye(model.depth))
    return jnp.abs(by_block).mean(axis=(1, 4))

  return gradients(jnp.asarray(images, jnp.float32))
