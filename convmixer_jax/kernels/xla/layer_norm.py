"""LayerNorm over the last axis in plain JAX.

A backend computes 'layer_norm' and 'layer_norm_gradient', with the arguments of
`forward` and `gradient` here.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax


def forward(
  x: jax.Array, scale: jax.Array, offset: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Normalises x `[..., C]`, with statistics and result in float32.

  Args:
    x: float32 or bfloat16.
    scale: `[C]`.
    offset: `[C]`.
    epsilon: added to the variance, which is the biased one.

  Returns:
    y like x; and the mean and the inverse of the standard deviation, `[...]`.
  """
  # The operations and their order are Flax's: so the bits are, too.
  wide = x.astype(jnp.float32)
  mean = wide.mean(-1)
  variance = lax.square(wide - mean[..., None]).mean(-1)
  inverse = lax.rsqrt(variance + epsilon)
  factor = inverse[..., None] * scale
  return (x - mean[..., None]) * factor + offset, mean, inverse


def gradient(
  x: jax.Array,
  mean: jax.Array,
  inverse: jax.Array,
  scale: jax.Array,
  g: jax.Array,
  epsilon: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the gradients of x, scale and offset.

  It is automatic, and does not take what `forward` returns.

  Args:
    x: as in `forward`.
    mean: from there.
    inverse: from there.
    scale: as there.
    g: the gradient of y.
    epsilon: as there.
  """
  del mean, inverse
  normalize = functools.partial(forward, epsilon=epsilon)
  _, pull = jax.vjp(
    lambda *operands: normalize(*operands)[0], x, scale, jnp.zeros_like(scale)
  )
  return pull(g)
