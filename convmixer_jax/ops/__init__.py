"""Operations whose gradient, precision or speed XLA leaves to be wished for."""

from convmixer_jax.ops.depthwise import IMPLEMENTATIONS, depthwise_conv
from convmixer_jax.ops.gelu import gelu
from convmixer_jax.ops.linear import linear

__all__ = ['IMPLEMENTATIONS', 'depthwise_conv', 'gelu', 'linear']
