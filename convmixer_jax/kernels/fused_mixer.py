"""For inference: everything between two products of a ConvMixer, fused."""

import jax

from convmixer_jax.kernels import dispatch


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
  backend: str | None = None,
) -> jax.Array:
  """Normalises the product p, then mixes space, with a residual connection:

  x = activation(p + p_bias) p_factor + p_shift
  x + activation(depthwise_conv(x, kernel, bias)) factor

  The C++ kernels for CPUs do it in one pass over memory, in which x is not
  rounded. No gradient is defined.

  Args:
    p: `[B, H, W, C]`, float32 or bfloat16.
    p_bias: `[C]`, of the product.
    p_factor: `[C]`, of the product's BatchNorm.
    p_shift: `[C]`, of the product's BatchNorm.
    kernel: `[k, k, C]`; rounded to p's dtype, as bias is.
    bias: `[C]`.
    factor: `[C]`, of the convolution's BatchNorm.
    activation: 'gelu' or 'relu'.
    backend: as in `depthwise_conv`.

  Returns:
    Shape and dtype of p.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """  # noqa: D400
  kernel, bias = kernel.astype(p.dtype), bias.astype(p.dtype)
  return dispatch.call(
    'fused_mixer',
    backend,
    p,
    p_bias,
    p_factor,
    p_shift,
    kernel,
    bias,
    factor,
    activation=activation,
    pad_before=(kernel.shape[0] - 1) // 2,
  )
