"""The stems of an isotropic network: from images to a grid of tokens.

All have the same grid, of one token for `patch_size` x `patch_size` pixels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax import kernels
from convmixer_jax.errors import UserError
from convmixer_jax.models.convmixer.module import norm_and_linear_backend
from convmixer_jax.models.isotropic import initializers
from convmixer_jax.models.isotropic.fields import Settings
from convmixer_jax.models.isotropic.norms import normalize
from convmixer_jax.models.layers import to_patches
from convmixer_jax.models.tokens import patch_grid


def apply_stem(
  settings: Settings, images: jax.Array, *, train: bool
) -> jax.Array:
  """Maps `[B, H, W, C]` to tokens `[B, H // p, W // p, width]`.

  To be called in a module's compact method. The convolution that sees the
  images is the module `patch_embedding`, whatever the stem.

  Raises:
    UserError: the images are smaller than a patch; or patches do not divide
      them, with a stem other than patches side by side, which crops them.
  """
  p = settings.patch_size
  _check_size(settings, images)
  x = images.astype(settings.dtype)
  if settings.stem == 'convolutions':
    # As many convolutions as halve the sides to the grid; the first has the
    # fewest channels, and each doubles them.
    count = p.bit_length() - 1
    widths = [max(settings.width >> (count - 1 - i), 1) for i in range(count)]
    first = StemConvolution(settings, widths[0], 3, 2, name='patch_embedding')
    rest = LaterConvolutions(
      settings, tuple(widths[1:]), train, name='stem_convolutions'
    )
    x, bias = rest(*first(x))
  else:
    size = 2 * p - 1 if settings.stem == 'overlapping' else p
    x, bias = StemConvolution(
      settings, settings.width, size, p, name='patch_embedding'
    )(x)
  if not settings.stem_activation:
    return (x.astype(jnp.float32) + bias).astype(x.dtype)
  return normalize(
    settings,
    x,
    bias,
    activation=settings.activation,
    norm=settings.norm,
    name='stem_norm',
    train=train,
  )


def _check_size(settings, images):
  height, width = images.shape[1:3]
  p = settings.patch_size
  if min(height, width) < p:
    raise UserError(
      f'config.model.patch_size = {p} is larger than the image ({height} x '
      f'{width}); choose a smaller patch or a larger image'
    )
  if settings.stem != 'patches':
    patch_grid(images, p)


class StemConvolution(nn.Module):
  """A convolution with as many outputs as there are steps of `stride` pixels.

  Windows larger than the stride overlap. They are padded with zeros, so that
  each has the pixels that a window of the stride's size would have.
  """

  settings: Settings
  features: int
  size: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maps `[B, H, W, C]` to `[B, H // stride, W // stride, features]`.

    Returns:
      The sums, and the bias `[features]`, which the caller has to add.
    """
    k, channels = self.size, x.shape[-1]
    inits = initializers.of_stem(self.settings, k * k * channels)
    shape = (k, k, channels, self.features)
    kernel = self.param('kernel', inits.kernel, shape)
    bias = self.param('bias', inits.bias, (self.features,))
    if k == self.stride:
      product = kernels.linear(
        to_patches(x, k),
        kernel.reshape(-1, self.features),
        backend=norm_and_linear_backend(self.settings.depthwise),
      )
      return product, bias
    padding = ((k - 1) // 2,) * 2
    product = lax.conv_general_dilated(
      x,
      kernel.astype(x.dtype),
      (self.stride,) * 2,
      (padding, padding),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    return product, bias


class LaterConvolutions(nn.Module):
  """The stem's convolutions after the first: 3 x 3, of stride 2.

  Before each of them come the activation and the normalisation.
  """

  settings: Settings
  widths: tuple[int, ...]
  train: bool

  @nn.compact
  def __call__(
    self, x: jax.Array, bias: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Maps `[B, h, w, C]`, and a bias to add to it, to such a pair."""
    for number, width in enumerate(self.widths, 2):
      x = normalize(
        self.settings,
        x,
        bias,
        activation=self.settings.activation,
        norm=self.settings.norm,
        name=f'norm{number - 1}',
        train=self.train,
      )
      x, bias = StemConvolution(
        self.settings, width, 3, 2, name=f'convolution{number}'
      )(x)
    return x, bias
