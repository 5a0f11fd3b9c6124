"""Operations XLA alone does not make fast everywhere."""

from convmixer_jax.ops.depthwise import IMPLEMENTATIONS, depthwise_conv

__all__ = ['IMPLEMENTATIONS', 'depthwise_conv']
