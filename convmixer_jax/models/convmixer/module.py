"""ConvMixer ("Patches Are All You Need?", arXiv 2201.09792), in Flax.

patchify: conv p x p, stride p -> activation -> BatchNorm
depth times: x + (depthwise conv k x k -> activation -> BatchNorm),
             then pointwise conv -> activation -> BatchNorm
head: mean over space -> dense
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from convmixer_jax import kernels
from convmixer_jax.errors import UserError
from convmixer_jax.models.batch_norm import (
  ActivationBatchNorm,
  DepthwiseConvolution,
)
from convmixer_jax.models.convmixer.fields import FIELDS
from convmixer_jax.models.fields import check_fields
from convmixer_jax.models.layers import (
  GatherFn,
  create_block,
  expose,
  to_patches,
  uniform_init,
)

# Collections whose arrays have a leading axis for the blocks.
_BY_BLOCK = 'params', 'batch_stats', 'intermediates', 'perturbations'


class PatchEmbedding(nn.Module):
  """A convolution with kernel and stride `patch_size`, VALID.

  Patches do not overlap, so it is one matrix product. Rows and columns that do
  not fill a patch are cropped.
  """

  width: int
  patch_size: int
  backend: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maps `[B, H, W, C]` to `[B, H // patch_size, W // patch_size, width]`.

    Returns:
      The product, and the bias `[width]`, which the caller has to add.
    """
    p, channels = self.patch_size, x.shape[-1]
    init = uniform_init(p * p * channels)
    kernel = self.param('kernel', init, (p, p, channels, self.width))
    bias = self.param('bias', init, (self.width,))
    y = kernels.linear(
      to_patches(x, p),
      kernel.reshape(-1, self.width),
      backend=self.backend,
    )
    return y, bias


class DepthwiseConv(nn.Module):
  """A depthwise convolution, "same" padding, with bias."""

  kernel_size: int
  backend: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, H, W, C]` to the same shape."""
    return _convolution(self, x.shape[-1]).convolve(x)


class DepthwiseWeights(nn.Module):
  """The weights of a `DepthwiseConv`."""

  kernel_size: int
  backend: str | None = None

  @nn.compact
  def __call__(self, channels: int) -> DepthwiseConvolution:
    """Returns the convolution, to be computed with what follows it."""
    return _convolution(self, channels)


def _convolution(module, channels):
  k = module.kernel_size
  init = uniform_init(k * k)
  return DepthwiseConvolution(
    module.param('kernel', init, (k, k, channels)),
    module.param('bias', init, (channels,)),
    module.backend,
    '/'.join(module.path),
  )


class PointwiseConv(nn.Module):
  """A 1 x 1 convolution that keeps the number of channels."""

  backend: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maps `[B, H, W, C]` to the same shape.

    Returns:
      The product, and the bias `[C]`, which the caller has to add.
    """
    kernel, bias = _dense_params(self, x.shape[-1], x.shape[-1])
    return kernels.linear(x, kernel, backend=self.backend), bias


class Dense(nn.Module):
  """A dense layer over the last axis."""

  features: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[..., C]` to `[..., features]`."""
    kernel, bias = _dense_params(self, x.shape[-1], self.features)
    return kernels.linear(x, kernel) + bias.astype(x.dtype)


def _dense_params(module, features_in, features_out):
  init = uniform_init(features_in)
  return (
    module.param('kernel', init, (features_in, features_out)),
    module.param('bias', init, (features_out,)),
  )


class MixerBlock(nn.Module):
  """One layer: mixes space (depthwise, residual), then channels (pointwise)."""

  kernel_size: int
  activation: str
  train: bool
  depthwise: str | None = None
  bn_group_size: int = 0

  @nn.compact
  def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
    """Maps `[B, H, W, C]` to the same shape; `nn.scan` needs the pair."""
    backend = norm_and_linear_backend(self.depthwise)
    norm = partial(
      ActivationBatchNorm, self.activation, self.bn_group_size, backend
    )
    depthwise = DepthwiseWeights(
      self.kernel_size, self.depthwise, name='depthwise'
    )(x.shape[-1])
    x = norm(name='depthwise_bn')(x, train=self.train, convolution=depthwise)
    y, bias = PointwiseConv(backend, name='pointwise')(x)
    y = checkpoint_name(y, kernels.SAVED_ACTIVATION)
    x = norm(name='pointwise_bn')(y, bias, train=self.train)
    return expose(self, 'output', x), None


class ConvMixer(nn.Module):
  """ConvMixer-width/depth.

  The blocks' parameters are stacked along a leading axis `[depth, ...]`,
  whether they run as a loop or unrolled, so a checkpoint serves both. With
  `mutable=['intermediates']`, `apply` also returns the outputs of the blocks,
  `['blocks']['output'][0]`: `[depth, B, H / p, W / p, width]`, and of the patch
  embedding, `['stem'][0]`; `models.features` names them.

  Attributes:
    width: channels of every layer ("h" in the paper).
    depth: number of mixer blocks.
    patch_size: side of a patch, in pixels.
    kernel_size: side of the depthwise kernels, odd or even.
    activation: 'gelu' (exact) or 'relu'.
    num_classes: outputs of the head.
    dtype: compute dtype; parameters and statistics are float32.
    depthwise: backend of the depthwise convolution, or None for the platform's
      default (see `kernels.depthwise_conv`). Only with 'cpu' or None are norms
      and products computed by our own kernels too.
    bn_group_size: images that share BatchNorm statistics, 0 for all.
    scan: compile one block and loop over it, instead of `depth` copies.
    remat: recompute the blocks' activations in the backward pass, to save
      memory.
    gather: function that the parameters of each block pass before use, or None.

  Raises:
    UserError: a field is out of range (on construction), or an image is smaller
      than a patch (on call).
  """

  width: int
  depth: int
  patch_size: int
  kernel_size: int
  activation: str = 'gelu'
  num_classes: int = 1000
  dtype: jnp.dtype = jnp.float32
  depthwise: str | None = None
  bn_group_size: int = 0
  scan: bool = False
  remat: bool = False
  gather: GatherFn | None = None

  def __post_init__(self):
    check_fields(FIELDS, self)
    super().__post_init__()

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Classifies images.

    Args:
      images: `[B, H, W, C]`, normalised, any height and width of at least
        `patch_size`.
      train: whether BatchNorm uses the statistics of this batch.

    Returns:
      Logits `[B, num_classes]`, float32. With `mutable='intermediates'` also
      the input of the head, `['intermediates']['features'][0]`: `[B, width]`.
    """
    if min(images.shape[1:3]) < self.patch_size:
      raise UserError(
        f'config.model.patch_size = {self.patch_size} is larger than the image '
        f'({images.shape[1]} x {images.shape[2]}); choose a smaller patch or a '
        'larger image'
      )
    x = images.astype(self.dtype)
    backend = norm_and_linear_backend(self.depthwise)
    x, bias = PatchEmbedding(
      self.width, self.patch_size, backend, name='patch_embedding'
    )(x)
    x = ActivationBatchNorm(
      self.activation,
      self.bn_group_size,
      backend,
      name='patch_bn',
    )(x, bias, train=train)
    x = expose(self, 'stem', x)

    policy = None
    if self.remat or self.scan or self.gather is not None:
      # If unrolled, XLA finds what is cheap to compute again; a loop saves what
      # autodiff decides, and so do blocks that gather their parameters.
      policy = jax.checkpoint_policies.save_only_these_names(
        *([] if self.remat else [kernels.SAVED_ACTIVATION])
      )
    block = create_block(
      MixerBlock, gather=self.gather, policy=policy, scan=self.scan
    )
    blocks = nn.scan(
      block,
      variable_axes=dict.fromkeys(_BY_BLOCK, 0),
      split_rngs={'params': True},
      length=self.depth,
      unroll=1 if self.scan else self.depth,
    )
    x, _ = blocks(
      self.kernel_size,
      self.activation,
      train,
      self.depthwise,
      self.bn_group_size,
      name='blocks',
    )(x, None)

    pooled = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    self.sow('intermediates', 'features', pooled)
    return Dense(self.num_classes, name='head')(pooled)


def norm_and_linear_backend(depthwise: str | None) -> str | None:
  """Returns the backend of norms and products, given the convolutions'."""
  names = None, *kernels.NORM_AND_LINEAR_BACKENDS
  return depthwise if depthwise in names else 'xla'
