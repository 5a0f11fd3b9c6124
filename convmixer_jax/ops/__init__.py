"""Operations whose gradient, precision or speed XLA leaves to be wished for."""

from convmixer_jax.ops.depthwise import IMPLEMENTATIONS, depthwise_conv
from convmixer_jax.ops.gelu import gelu
from convmixer_jax.ops.linear import linear, pack
from convmixer_jax.ops.mix import mix
from convmixer_jax.ops.norm import (
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
