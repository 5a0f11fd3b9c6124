"""ConvMixer as one would write it in Flax, for `benchmarks.model`."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class PlainConvMixer(nn.Module):
  """ConvMixer-width/depth from Flax's own layers; same network as `ConvMixer`.

  Attributes:
    width: channels of every layer.
    depth: number of mixer blocks.
    patch_size: side of a patch, in pixels.
    kernel_size: side of the depthwise kernels.
    activation: 'gelu' (exact) or 'relu'.
    num_classes: outputs of the head.
  """

  width: int
  depth: int
  patch_size: int
  kernel_size: int
  activation: str
  num_classes: int

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps images `[B, H, W, 3]` to logits `[B, num_classes]`."""

    def activate(x):
      x = nn.relu(x) if self.activation == 'relu' else nn.gelu(x, False)
      return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)

    patch = (self.patch_size, self.patch_size)
    kernel = (self.kernel_size, self.kernel_size)
    x = activate(nn.Conv(self.width, patch, patch, padding='VALID')(x))
    for _ in range(self.depth):
      y = nn.Conv(self.width, kernel, feature_group_count=self.width)(x)
      x = x + activate(y)
      x = activate(nn.Conv(self.width, (1, 1))(x))
    return nn.Dense(self.num_classes)(jnp.mean(x, axis=(1, 2)))
