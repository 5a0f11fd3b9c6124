"""The fused mixer of several operations, which XLA fuses as far as it can."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from convmixer_jax.kernels.xla import norm


def fused_mixer(
  p: jax.Array,
  p_bias: jax.Array,
  p_factor: jax.Array,
  p_shift: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  factor: jax.Array,
  *,
  activation: str,
  pad_before: int,
  convolution: Callable[..., jax.Array],
) -> jax.Array:
  """Computes `kernels.fused_mixer`.

  Args:
    p: as the six arrays that follow and `activation`, see there.
    p_bias: `[C]`.
    p_factor: `[C]`.
    p_shift: `[C]`.
    kernel: `[k, k, C]`, of p's dtype, as bias is.
    bias: `[C]`.
    factor: `[C]`.
    activation: 'gelu' or 'relu'.
    pad_before: zeros before the first row and column.
    convolution: computes 'depthwise_conv'.

  Returns:
    Shape and dtype of p.
  """

  def affine(x, bias, factor, shift, residual):
    factor, shift = (
      jnp.broadcast_to(array, (x.shape[0], *array.shape))
      for array in (factor, shift)
    )
    return norm.affine(x, bias, factor, shift, residual, activation)

  x = affine(p, p_bias, p_factor, p_shift, None)
  y = convolution(x, kernel, bias, pad_before)
  zeros = jnp.zeros_like(factor)
  return affine(y, zeros, factor, zeros, x)
