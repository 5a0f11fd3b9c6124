"""A straightforward ConvMixer in Flax, for `benchmarks.model`."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp


class PlainConvMixer(nn.Module):
  """ConvMixer-width/depth of Flax's layers; the same network as `ConvMixer`.

  Attributes:
    width: channels of every layer.
    depth: number of mixer blocks.
    patch_size: side of a patch, in pixels.
    kernel_size: side of the depthwise kernels.
    activation: 'gelu' (exact) or 'relu'.
    num_classes: outputs of the head.
    dtype: compute dtype; the head computes in float32.
    loop: compute the blocks in a loop, of which one is compiled; the parameters
      of all are stacked then.
  """

  width: int
  depth: int
  patch_size: int
  kernel_size: int
  activation: str
  num_classes: int
  dtype: jnp.dtype = jnp.float32
  loop: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps images `[B, H, W, 3]` to logits `[B, num_classes]`."""

    conv = partial(nn.Conv, self.width, dtype=self.dtype)
    fields = self.width, self.kernel_size, self.activation, self.dtype, train

    patch = (self.patch_size, self.patch_size)
    x = conv(patch, patch, padding='VALID')(x.astype(self.dtype))
    x = _activate(x, self.activation, self.dtype, train)
    if self.loop:
      blocks = nn.scan(
        _Block,
        variable_axes={'params': 0, 'batch_stats': 0},
        split_rngs={'params': True},
        length=self.depth,
      )
      x, _ = blocks(*fields)(x, None)
    else:
      for _ in range(self.depth):
        x = _mix(x, *fields)
    pooled = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    return nn.Dense(self.num_classes)(pooled)


class _Block(nn.Module):
  """A block of the loop; has the fields of `PlainConvMixer`."""

  width: int
  kernel_size: int
  activation: str
  dtype: jnp.dtype
  train: bool

  @nn.compact
  def __call__(self, x, _):
    fields = self.width, self.kernel_size, self.activation, self.dtype
    return _mix(x, *fields, self.train), None


def _mix(x, width, kernel_size, activation, dtype, train):
  """Computes a block of mixer layers, in a module."""
  conv = partial(nn.Conv, width, dtype=dtype)
  y = conv((kernel_size, kernel_size), feature_group_count=width)(x)
  x = x + _activate(y, activation, dtype, train)
  return _activate(conv((1, 1))(x), activation, dtype, train)


def _activate(x, activation, dtype, train):
  x = nn.relu(x) if activation == 'relu' else nn.gelu(x, False)
  return nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=dtype)(
    x
  )
