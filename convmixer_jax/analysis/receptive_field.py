"""Computes the effective receptive fields of a network; `plots` draws them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from convmixer_jax.models.features import find_layers


def effective_receptive_fields(
  model: nn.Module, variables: Mapping[str, Any], images: jax.Array
) -> jax.Array:
  """Returns the effective receptive field of each block.

  It is the gradient of the block's output at the centre, summed over channels,
  with respect to the image: its absolute value, averaged over images and
  colours (Luo et al., arXiv 1701.04128). On a grid of even side, the centre is
  the position below and to the right of the middle.

  Args:
    model: the network, evaluated with its running statistics.
    variables: its `params` and `batch_stats`.
    images: `[B, H, W, 3]`, normalised.

  Returns:
    `[depth, H, W]`, float32.
  """

  def compute_centres(images):
    _, state = model.apply(
      variables, images, train=False, mutable=['intermediates']
    )
    sown = state['intermediates']
    outputs = [
      place.find(sown)
      for name, place in find_layers(sown).items()
      if name.startswith('block')
    ]
    return jnp.stack([_centre(output) for output in outputs])  # [depth]

  @jax.jit
  def compute_fields(images):
    centres, vjp = jax.vjp(compute_centres, images)
    # One block after the other: all together need `depth` times the memory.
    (gradients,) = jax.lax.map(vjp, jnp.eye(len(centres)))
    return jnp.abs(gradients).mean(axis=(1, 4))

  return compute_fields(jnp.asarray(images, jnp.float32))


def _centre(output):
  """Returns the sum of images and channels at the centre of `[B, h, w, C]`."""
  rows, columns = output.shape[1:3]
  return output[:, rows // 2, columns // 2].astype(jnp.float32).sum()
