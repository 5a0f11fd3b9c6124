"""What the CPU computes at once of dense layers, in plain JAX.

The functions have the interface that every backend's have (`dense.py`).
"""

import jax
import jax.numpy as jnp

from convmixer_jax.kernels.gelu import gelu
from convmixer_jax.kernels.xla import linear


def gradients(x: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Computes the gradients of a dense layer's kernel and bias, in float32.

  Args:
    x: `[..., I]`.
    dy: `[..., O]`, the gradient of what the layer returns.

  Returns:
    `[I, O]` and `[O]`.
  """
  axes = tuple(range(dy.ndim - 1))
  return linear.kernel_gradient(x, dy), dy.astype(jnp.float32).sum(axes)


def gelu_product(
  x: jax.Array, kernel: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Computes GELU of `x @ kernel + bias`, and returns what it is of as well.

  Args:
    x: `[..., I]`.
    kernel: `[I, O]`, of the dtype of x.
    bias: `[O]`, float32.
  """
  before = linear.product(x, kernel).astype(jnp.float32) + bias
  before = before.astype(x.dtype)
  return gelu(before), before


def gelu_transposed_product(
  x: jax.Array, kernel: jax.Array, before: jax.Array
) -> jax.Array:
  """Computes `x @ kernel.T` times the slope of GELU at `before`.

  Args:
    x: `[..., O]`.
    kernel: `[I, O]`, of the dtype of x.
    before: `[..., I]`.
  """
  _, pull = jax.vjp(gelu, before)
  (dbefore,) = pull(linear.transposed_product(x, kernel))
  return dbefore
