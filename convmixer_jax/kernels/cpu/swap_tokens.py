"""Tokens and channels in each other's place by the kernel of csrc/transpose.h.

It has to be available (`library.unavailable`). Sharded tokens are not moved.
"""

import jax

from convmixer_jax.kernels.cpu.images_call import IMAGES, call


def swap_tokens(x: jax.Array) -> jax.Array:
  """Returns `[B, C, N]` for x `[B, N, C]`, float32."""
  _, tokens, channels = x.shape
  (y,) = call('transpose', [(IMAGES, x)], [(IMAGES, (channels, tokens))])
  return y
