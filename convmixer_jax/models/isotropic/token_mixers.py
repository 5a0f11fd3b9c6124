"""What mixes tokens in an isotropic network."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from convmixer_jax import kernels
from convmixer_jax.models.convmixer.module import (
  DepthwiseConv,
  norm_and_linear_backend,
)
from convmixer_jax.models.fixed_tokens import over_tokens
from convmixer_jax.models.isotropic import initializers
from convmixer_jax.models.isotropic.channel_mixers import Mlp
from convmixer_jax.models.isotropic.fields import Settings
from convmixer_jax.models.layers import Attention, Dense


def mix_tokens(settings: Settings, x: jax.Array) -> jax.Array:
  """Mixes tokens; to be called in a module's compact method.

  The mixer is the module `token_mixer`, if it has variables.

  Args:
    settings: of the network.
    x: `[B, rows, columns, C]`; of networks with a class token
      `[B, 1 + rows * columns, 1, C]`.

  Returns:
    Like x.
  """
  mixer, name = settings.token_mixer, 'token_mixer'
  if mixer == 'none':
    return x
  if mixer == 'pool':
    backend = settings.depthwise
    return average_pool(x, settings.kernel_size, backend=backend) - x
  if mixer == 'convolution':
    y = DepthwiseConv(settings.kernel_size, settings.depthwise, name=name)(x)
    return checkpoint_name(y, kernels.SAVED_ACTIVATION)
  tokens = x.reshape(x.shape[0], -1, x.shape[-1])
  init, dtype = initializers.of_token_mixer(settings).kernel, settings.dtype
  backend = norm_and_linear_backend(settings.depthwise)
  if mixer == 'attention':
    y = Attention(settings.heads, init, dtype, backend, name=name)(tokens)
  elif mixer == 'linear':
    layer = Dense(
      tokens.shape[1], init, dtype=dtype, backend=backend, name=name
    )
    y = over_tokens(layer, tokens, backend)
  elif mixer == 'mlp':
    mlp = Mlp(
      *(settings.token_hidden, init, settings.activation, dtype, backend),
      name=name,
    )
    y = over_tokens(mlp, tokens, backend)
  else:
    y = RandomMap(dtype, name=name)(tokens)
  return y.reshape(x.shape)


def average_pool(
  x: jax.Array, size: int, *, backend: str | None = None
) -> jax.Array:
  """Averages over windows around each token; stride 1.

  Places outside the grid do not count, as in PoolFormer.

  Args:
    x: `[B, h, w, C]`.
    size: side of the windows; even ones reach further down and right.
    backend: see `kernels.depthwise_conv`, which computes the sums.

  Returns:
    Like x.
  """
  ones = jnp.ones((size, size, x.shape[-1]), jnp.float32)
  sums = kernels.depthwise_conv(x, ones, backend=backend)
  rows, columns = (_window_lengths(side, size) for side in x.shape[1:3])
  counts = rows[:, None, None] * columns[:, None]
  return (sums.astype(jnp.float32) / counts).astype(x.dtype)


def _window_lengths(side: int, size: int) -> np.ndarray:
  """Returns how much of the window around each place is inside, `[side]`."""
  places = np.arange(side)
  first = np.maximum(places - (size - 1) // 2, 0)
  last = np.minimum(places + size // 2, side - 1)
  return (last - first + 1).astype(np.float32)


class RandomMap(nn.Module):
  """A linear map over the tokens that stays as it was drawn.

  Its rows are a softmax of numbers from U[0, 1), as in RandFormer (arXiv
  2210.13452). It is not a parameter; it is kept with the running statistics,
  `batch_stats`, so that checkpoints have it.
  """

  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, N, C]` to the same shape."""
    count = x.shape[1]

    def draw():
      uniform = jax.random.uniform(self.make_rng('params'), (count, count))
      return jax.nn.softmax(uniform)

    rows = jax.lax.stop_gradient(
      self.variable('batch_stats', 'map', draw).value
    )
    mixed = kernels.linear(
      x.swapaxes(1, 2).astype(self.dtype), rows.T, backend='xla'
    )
    return mixed.swapaxes(1, 2)
