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
  """

  width: int
  depth: int
  patch_size: int
  kernel_size: int
  activation: str
  num_classes: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps images `[B, H, W, 3]` to logits `[B, num_classes]`."""

    conv = partial(nn.Conv, self.width, dtype=self.dtype)

    def activate(x):
      x = nn.relu(x) if self.activation == 'relu' else nn.gelu(x, False)
      return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, dtype=self.dtype
      )(x)

    patch = (self.patch_size, self.patch_size)
    kernel = (self.kernel_size, self.kernel_size)
    x = activate(conv(patch, patch, padding='VALID')(x.astype(self.dtype)))
    for _ in range(self.depth):
      y = conv(kernel, feature_group_count=self.width)(x)
      x = x + activate(y)
      x = activate(conv((1, 1))(x))
    pooled = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    return nn.Dense(self.num_classes)(pooled)
