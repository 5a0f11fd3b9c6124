"""Operations whose XLA form is inaccurate or slow, each with several backends.

`dispatch.py` chooses the backend, `backends.py` has all of them.
"""

from convmixer_jax.kernels import backends, dispatch
from convmixer_jax.kernels.activation_affine import activation_affine
from convmixer_jax.kernels.adamw import adamw, has_adamw
from convmixer_jax.kernels.attention import attention
from convmixer_jax.kernels.batch_norm import affine, batch_norm
from convmixer_jax.kernels.biased import biased_conv, biased_linear
from convmixer_jax.kernels.channel_affine import channel_affine
from convmixer_jax.kernels.conv import conv
from convmixer_jax.kernels.dense import dense, mlp
from convmixer_jax.kernels.depthwise import depthwise_conv
from convmixer_jax.kernels.fused_mixer import fused_mixer
from convmixer_jax.kernels.gelu import gelu
from convmixer_jax.kernels.layer_norm import layer_norm
from convmixer_jax.kernels.linear import PackedKernel, linear, pack_kernel
from convmixer_jax.kernels.max_pool import max_pool
from convmixer_jax.kernels.norm import (
  ACTIVATIONS,
  SAVED_ACTIVATION,
  activation_batch_norm,
  activation_mean,
)
from convmixer_jax.kernels.residual_depthwise import residual_depthwise
from convmixer_jax.kernels.stored_gradient import stored_gradient
from convmixer_jax.kernels.swap_tokens import swap_back, swap_tokens

# Those of the depthwise convolution, and those of norms and products.
BACKENDS = dispatch.backends_of('depthwise_conv')
NORM_AND_LINEAR_BACKENDS = dispatch.backends_of('norm_sums')

__all__ = [
  'ACTIVATIONS',
  'BACKENDS',
  'NORM_AND_LINEAR_BACKENDS',
  'SAVED_ACTIVATION',
  'PackedKernel',
  'activation_affine',
  'activation_batch_norm',
  'activation_mean',
  'adamw',
  'affine',
  'attention',
  'backends',
  'batch_norm',
  'biased_conv',
  'biased_linear',
  'channel_affine',
  'conv',
  'dense',
  'depthwise_conv',
  'fused_mixer',
  'gelu',
  'has_adamw',
  'layer_norm',
  'linear',
  'max_pool',
  'mlp',
  'pack_kernel',
  'residual_depthwise',
  'stored_gradient',
  'swap_back',
  'swap_tokens',
]
