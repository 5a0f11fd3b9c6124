"""Operations whose gradient, precision or speed XLA leaves to be wished for."""

from convmixer_jax.kernels.depthwise import IMPLEMENTATIONS, depthwise_conv
from convmixer_jax.kernels.fused_mixer import mix
from convmixer_jax.kernels.gelu import gelu
from convmixer_jax.kernels.linear import linear, pack
from convmixer_jax.kernels.norm import (
  ACTIVATIONS,
  KEPT,
  activation_affine,
  activation_batch_norm,
  activation_mean,
)

__all__ = [
  'ACTIVATIONS',
  'IMPLEMENTATIONS',
  'KEPT',
  'activation_affine',
  'activation_batch_norm',
  'activation_mean',
  'depthwise_conv',
  'gelu',
  'linear',
  'mix',
  'pack',
]
