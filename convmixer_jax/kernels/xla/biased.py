"""Products and convolutions with what follows them, in plain JAX.

The functions have the interface that every backend's have (`biased.py`).
"""

from typing import Any

import jax
import jax.numpy as jnp

from convmixer_jax.kernels.gelu import gelu
from convmixer_jax.kernels.xla import conv, linear


def product(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None,
  residual: jax.Array | None,
  *,
  activation: str | None,
) -> jax.Array:
  """Computes `activation(x @ kernel + bias + residual)`; see `finish`.

  Args:
    x: `[..., I]`.
    kernel: `[I, O]`, of the dtype of x.
    bias: `[O]`, float32, or None.
    residual: `[..., O]`, or None.
    activation: 'gelu', 'relu' or None.
  """
  return finish(linear.product(x, kernel), bias, residual, activation)


def convolve(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None,
  residual: jax.Array | None,
  *,
  activation: str | None,
  **how: Any,
) -> jax.Array:
  """Computes `activation(convolution + bias + residual)`; see `finish`.

  Args:
    x: `[B, H, W, I]`.
    kernel: `[k, k, I, O]`, of the dtype of x.
    bias: `[O]`, float32, or None.
    residual: like the convolution, or None.
    activation: 'gelu', 'relu' or None.
    **how: stride and padding, as in `conv.convolve`.
  """
  return finish(conv.convolve(x, kernel, **how), bias, residual, activation)


def finish(
  y: jax.Array,
  bias: jax.Array | None,
  residual: jax.Array | None,
  activation: str | None,
) -> jax.Array:
  """Computes `activation(y + bias + residual)`, in float32, rounded once.

  Args:
    y: `[..., O]`.
    bias: `[O]`, float32, or None.
    residual: like y, or None.
    activation: 'gelu', 'relu' or None.

  Returns:
    Shape and dtype of y.
  """
  total = y.astype(jnp.float32)
  if bias is not None:
    total += bias
  if residual is not None:
    total += residual.astype(jnp.float32)
  if activation == 'gelu':
    total = gelu(total)
  elif activation == 'relu':
    total = jax.nn.relu(total)
  return total.astype(y.dtype)
