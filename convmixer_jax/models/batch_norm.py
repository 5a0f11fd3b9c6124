"""BatchNorm as PyTorch computes it, over groups of images, with activations."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax import kernels
from convmixer_jax.config import ImageSize
from convmixer_jax.errors import UserError
from convmixer_jax.kernels.named_layers import in_layer
from convmixer_jax.models.shapes import variable_shapes

MOMENTUM = 0.9  # running = 0.9 running + 0.1 batch: PyTorch's momentum 0.1
EPSILON = 1e-5


class DepthwiseConvolution(NamedTuple):
  """A depthwise convolution that has not been computed.

  Attributes:
    kernel: `[k, k, C]`.
    bias: `[C]`.
    backend: see `kernels.depthwise_conv`.
    layer: name of the module that has the kernel, for messages.
  """

  kernel: jax.Array
  bias: jax.Array
  backend: str | None = None
  layer: str = ''

  def convolve(self, x: jax.Array) -> jax.Array:
    """Maps `[B, H, W, C]` to the same shape."""
    with in_layer(self.layer):
      return kernels.depthwise_conv(
        x, self.kernel, self.bias, backend=self.backend
      )


class ActivationBatchNorm(nn.Module):
  """Activates, then normalises each channel by statistics of a group of images.

  The normalisation equals `torch.nn.BatchNorm2d`: epsilon 1e-5, running
  statistics `0.9 running + 0.1 batch`, the running variance from the unbiased
  estimate. Everything is computed in float32, and rounded once.

  Attributes:
    activation: 'gelu' (exact) or 'relu'.
    group_size: images that share their statistics; 0 is the whole batch. The
      authors train with 64, the images of one of their devices. If no group
      spans several devices, normalising needs no communication. The
      running statistics are updated with the mean over groups.
    backend: see `kernels.activation_batch_norm`.
  """

  momentum = MOMENTUM  # not a field: `statistics_momentum` reads it

  activation: str
  group_size: int = 0
  backend: str | None = None

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    bias: jax.Array | None = None,
    residual: jax.Array | None = None,
    *,
    train: bool,
    convolution: DepthwiseConvolution | None = None,
  ) -> jax.Array:
    """Computes `BatchNorm(activation(x + bias)) (+ residual)`.

    With a convolution, it is `x + BatchNorm(activation(convolution(x)))`.

    Args:
      x: `[B, H, W, C]`.
      bias: `[C]`, or None, which it is with a convolution.
      residual: like x, or None, which it is with a convolution.
      train: whether to use the statistics of the batch, and to update the
        running ones.
      convolution: of x, or None.

    Returns:
      `[B, H, W, C]`, the dtype of `x`.

    Raises:
      UserError: `group_size` does not divide the batch, or each channel of a
        group has one value in training.
    """
    channels = x.shape[-1]
    scale = self.param('scale', nn.initializers.ones, (channels,))
    offset = self.param('bias', nn.initializers.zeros, (channels,))
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (channels,))
    running_var = self.variable('batch_stats', 'var', jnp.ones, (channels,))
    how: dict[str, Any] = {
      'activation': self.activation,
      'backend': self.backend,
    }

    if not train:
      factor, shift = running_affine(
        {'scale': scale, 'bias': offset},
        {'mean': running_mean.value, 'var': running_var.value},
      )
      if convolution is not None:
        x, residual = convolution.convolve(x), x
      return kernels.activation_affine(x, bias, factor, shift, residual, **how)

    group_size, count = _find_groups(self, x)
    how |= {'group_size': group_size, 'epsilon': EPSILON}
    if convolution is None:
      y, mean, var = kernels.activation_batch_norm(
        x, bias, scale, offset, residual, **how
      )
    else:
      with in_layer(convolution.layer):
        y, mean, var = kernels.residual_depthwise(
          *(x, convolution.kernel, convolution.bias, scale, offset),
          depthwise=convolution.backend,
          **how,
        )
    if not self.is_initializing():
      _update(running_mean, running_var, mean, var, count)
    return y


class BatchNorm(nn.Module):
  """Normalises, adds a residual and applies ReLU, in this order.

  The normalisation is that of `ActivationBatchNorm`, statistics included.

  Attributes:
    relu: whether ReLU follows.
    group_size: see `ActivationBatchNorm`.
    backend: see `kernels.batch_norm`.
    scale_init: of the factor of each channel.
  """

  momentum = MOMENTUM  # not a field: `statistics_momentum` reads it

  relu: bool
  group_size: int = 0
  backend: str | None = None
  scale_init: nn.initializers.Initializer = nn.initializers.ones

  @nn.compact
  def __call__(
    self, x: jax.Array, residual: jax.Array | None = None, *, train: bool
  ) -> jax.Array:
    """Computes `BatchNorm(x) (+ residual)`, and ReLU of it.

    Args:
      x: `[B, H, W, C]`.
      residual: like x, or None.
      train: whether to use the statistics of the batch, and to update the
        running ones.

    Returns:
      `[B, H, W, C]`, the dtype of `x`.

    Raises:
      UserError: see `ActivationBatchNorm`.
    """
    channels = x.shape[-1]
    scale = self.param('scale', self.scale_init, (channels,))
    offset = self.param('bias', nn.initializers.zeros, (channels,))
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (channels,))
    running_var = self.variable('batch_stats', 'var', jnp.ones, (channels,))
    if not train:
      factor, shift = running_affine(
        {'scale': scale, 'bias': offset},
        {'mean': running_mean.value, 'var': running_var.value},
      )
      return kernels.affine(x, factor, shift, residual, relu=self.relu)
    group_size, count = _find_groups(self, x)
    y, mean, var = kernels.batch_norm(
      x,
      scale,
      offset,
      residual,
      relu=self.relu,
      group_size=group_size,
      epsilon=EPSILON,
      backend=self.backend,
    )
    if not self.is_initializing():
      _update(running_mean, running_var, mean, var, count)
    return y


def _find_groups(
  norm: ActivationBatchNorm | BatchNorm, x: jax.Array
) -> tuple[int, int]:
  """Returns the images of a group, and its values in a channel."""
  group_size = norm.group_size or x.shape[0]
  if x.shape[0] % group_size:
    raise UserError(
      f'config.model.bn_group_size = {group_size} does not divide the '
      f'{x.shape[0]} images of a forward pass; choose a divisor, or 0 for '
      'the whole batch'
    )
  count = group_size * x.shape[1] * x.shape[2]
  if count == 1 and not norm.is_initializing():
    raise UserError(
      'BatchNorm has a single value per channel in training, whose variance '
      'is 0: groups of 1 image, of 1 x 1 positions; raise config.batch_size '
      '(or config.model.bn_group_size), lower config.accum_steps, or choose '
      'larger images or smaller patches'
    )
  return group_size, count


def running_affine(
  params: Mapping[str, jax.Array], stats: Mapping[str, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """Returns BatchNorm in evaluation as a factor and a shift, `[..., C]` each.

  Args:
    params: BatchNorm's `scale` and `bias`.
    stats: BatchNorm's running `mean` and `var`.
  """
  factor = params['scale'] * lax.rsqrt(stats['var'] + EPSILON)
  return factor, params['bias'] - stats['mean'] * factor


def statistics_momentum(
  model: nn.Module, image_size: ImageSize, channels: int = 3
) -> float | None:
  """Returns the momentum of a network's running statistics.

  Args:
    model: the network, of this package or not.
    image_size: side of its images or (height, width), in pixels.
    channels: of these.

  Returns:
    The largest one of its norms, such as 0.9, which is the share of the former
    value in an update; None if it has no such norms.
  """
  found: list[float] = []

  def record(call, arguments, keywords, context):
    result = call(*arguments, **keywords)
    module = context.module
    if context.method_name == '__call__' and module.has_variable(
      'batch_stats', 'mean'
    ):
      found.append(getattr(module, 'momentum', 0.0))
    return result

  with nn.intercept_methods(record):
    variable_shapes(model, image_size, channels)
  return max(found, default=None)


def _update(running_mean, running_var, mean, var, count):
  """Updates running statistics with those of the groups `[G, C]`."""
  unbiased = var * (count / (count - 1))
  for running, groups in ((running_mean, mean), (running_var, unbiased)):
    running.value = MOMENTUM * running.value + (1 - MOMENTUM) * jnp.mean(
      groups, axis=0
    )
