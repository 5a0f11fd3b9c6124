"""For inference: all that lies between two products of a ConvMixer."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax.kernels.cpu import depthwise as depthwise_cpu
from convmixer_jax.kernels.cpu import library
from convmixer_jax.kernels.depthwise import depthwise_conv
from convmixer_jax.kernels.norm import activation_affine


def mix(
  p: jax.Array,
  p_bias: jax.Array,
  p_factor: jax.Array,
  p_shift: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  factor: jax.Array,
  *,
  activation: str,
  implementation: str | None = None,
) -> jax.Array:
  """Normalises the product p, and mixes space, with the residual around it:

  x = activation(p + p_bias) p_factor + p_shift
  x + activation(depthwise_conv(x, kernel, bias)) factor

  By the native kernels it is one pass over memory, in which x is not rounded.
  No gradient is defined.

  Args:
    p: `[B, H, W, C]`, float32 or bfloat16.
    p_bias: `[C]`, as p_factor and p_shift: BatchNorm of the product.
    p_factor: likewise.
    p_shift: likewise.
    kernel: `[k, k, C]`; rounded to p's dtype, as bias is.
    bias: `[C]`.
    factor: `[C]`, of the convolution's BatchNorm.
    activation: 'gelu' or 'relu'.
    implementation: as in `depthwise_conv`.

  Returns:
    Shape and dtype of p.
  """  # noqa: D400
  size = kernel.shape[0]
  kernel, bias = kernel.astype(p.dtype), bias.astype(p.dtype)
  operands = p, p_bias, p_factor, p_shift, kernel, bias, factor
  native_mix = partial(
    depthwise_cpu.mix, activation=activation, low=(size - 1) // 2
  )
  composed = partial(
    _composed, activation=activation, implementation=implementation
  )
  if implementation == 'native':
    return native_mix(*operands)
  if (
    implementation is None
    and jax.default_backend() == 'cpu'
    and library.is_available('depthwise', size)
  ):
    return lax.platform_dependent(*operands, cpu=native_mix, default=composed)
  return composed(*operands)


def _composed(
  p, p_bias, p_factor, p_shift, kernel, bias, factor, activation, implementation
):
  how = {'activation': activation}
  how['implementation'] = None if implementation is None else 'xla'
  x = activation_affine(p, p_bias, p_factor, p_shift, **how)
  y = depthwise_conv(x, kernel, bias, implementation=implementation)
  return activation_affine(y, None, factor, jnp.zeros_like(factor), x, **how)
