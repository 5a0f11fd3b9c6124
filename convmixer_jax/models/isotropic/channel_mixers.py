"""What mixes the channels of a token in an isotropic network."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from convmixer_jax import kernels
from convmixer_jax.models.convmixer.module import (
  PointwiseConv,
  norm_and_linear_backend,
)
from convmixer_jax.models.isotropic import initializers
from convmixer_jax.models.isotropic.fields import Settings
from convmixer_jax.models.isotropic.norms import activate
from convmixer_jax.models.layers import Dense


def mix_channels(
  settings: Settings, x: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
  """Mixes channels; to be called in a module's compact method.

  The mixer is the module `channel_mixer`.

  Args:
    settings: of the network.
    x: `[B, h, w, C]`.

  Returns:
    What x is mixed to, like x, and a bias `[C]` that the caller has to add, or
    None.
  """
  backend = norm_and_linear_backend(settings.depthwise)
  if settings.channel_mixer == 'pointwise':
    y, bias = PointwiseConv(backend, name='channel_mixer')(x)
    return checkpoint_name(y, kernels.SAVED_ACTIVATION), bias
  mlp = Mlp(
    settings.mlp_ratio * x.shape[-1],
    initializers.of_channel_mlp(settings).kernel,
    settings.activation,
    settings.dtype,
    backend,
    name='channel_mixer',
  )
  return mlp(x), None


class Mlp(nn.Module):
  """Two dense layers with an activation between them."""

  hidden: int
  kernel_init: nn.initializers.Initializer
  activation: str
  dtype: jnp.dtype
  backend: str | None  # of the dense layers

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[..., C]` to the same shape."""
    dense = functools.partial(
      Dense,
      kernel_init=self.kernel_init,
      dtype=self.dtype,
      backend=self.backend,
    )
    y = activate(dense(self.hidden, name='expand')(x), self.activation)
    return dense(x.shape[-1], name='contract')(y)
