"""BatchNorm as PyTorch computes it, over groups of images."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax.errors import UserError

MOMENTUM = 0.9  # running = 0.9 running + 0.1 batch: PyTorch's momentum 0.1
EPSILON = 1e-5


class BatchNorm(nn.Module):
  """Normalises each channel by the statistics of a group of images.

  Equal to `torch.nn.BatchNorm2d`: epsilon 1e-5, running statistics
  `0.9 running + 0.1 batch`, the running variance from the unbiased estimate.
  Statistics and normalisation are computed in float32.

  Attributes:
    group_size: images that share their statistics; 0 is the whole batch. The
      authors train with 64, the images of one of their devices. With groups
      that do not straddle devices, normalising needs no communication. The
      running statistics are updated with the mean over groups.
  """

  group_size: int = 0

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Normalises `x`.

    Args:
      x: `[B, H, W, C]`.
      train: whether to use (and record) the statistics of the batch.

    Returns:
      `[B, H, W, C]`, the dtype of `x`.

    Raises:
      UserError: `group_size` does not divide the batch.
    """
    channels = x.shape[-1]
    scale = self.param('scale', nn.initializers.ones, (channels,))
    bias = self.param('bias', nn.initializers.zeros, (channels,))
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (channels,))
    running_var = self.variable('batch_stats', 'var', jnp.ones, (channels,))

    if not train:
      return _normalize(x, running_mean.value, running_var.value, scale, bias)

    group_size = self.group_size or x.shape[0]
    if x.shape[0] % group_size:
      raise UserError(
        f'config.model.bn_group_size = {group_size} does not divide the '
        f'{x.shape[0]} images of a forward pass; choose a divisor, or 0 for '
        'the whole batch'
      )
    groups = x.reshape(-1, group_size, *x.shape[1:])
    mean, var = _moments(groups, axes=(1, 2, 3))
    if not self.is_initializing():
      count = group_size * x.shape[1] * x.shape[2]
      unbiased = var * (count / max(count - 1, 1))
      running_mean.value = _update(running_mean.value, mean)
      running_var.value = _update(running_var.value, unbiased)
    return _normalize(groups, mean, var, scale, bias).reshape(x.shape)


def _moments(x, axes):
  """Mean and biased variance in one pass over `x`, in float32."""
  x = x.astype(jnp.float32)
  mean = jnp.mean(x, axes, keepdims=True)
  mean_of_squares = jnp.mean(lax.square(x), axes, keepdims=True)
  return mean, jnp.maximum(mean_of_squares - lax.square(mean), 0.0)


def _update(running, groups):
  batch = jnp.mean(groups.reshape(-1, groups.shape[-1]), axis=0)
  return MOMENTUM * running + (1 - MOMENTUM) * batch


def _normalize(x, mean, var, scale, bias):
  factor = lax.rsqrt(var + EPSILON) * scale
  y = x.astype(jnp.float32) * factor + (bias - mean * factor)
  return y.astype(x.dtype)
