"""The pointwise product in plain JAX.

The functions have the interface that every backend's have (`linear.py`).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from convmixer_jax.kernels.xla.rounded_dot import rounded_dot


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Computes `x @ kernel` of x `[..., I]` and kernel `[I, O]` of one dtype.

  Sums run in float32; the result has x's dtype.
  """
  return rounded_dot(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def transposed_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Computes `x @ kernel.T` of x `[..., O]` and kernel `[I, O]`, as above."""
  rows = product(x.reshape(-1, x.shape[-1]), _transposed(kernel))
  return rows.reshape(*x.shape[:-1], len(kernel))


def kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
  """Computes the gradient `[I, O]` of `product`'s kernel, in float32.

  Args:
    x: `[..., I]`.
    dy: `[..., O]`, the gradient of the product.
  """
  # As matrices: XLA:CPU is slow to contract several axes at once.
  rows, dy_rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
  return jnp.dot(_transposed(rows), dy_rows, preferred_element_type=jnp.float32)


@jax.jit  # outside of one, layouts belong to arrays
def _transposed(matrix):
  """Transposes; on a CPU bfloat16 in memory, since XLA multiplies it only so.

  If it has to read a matrix across its rows, XLA:CPU first converts bfloat16 to
  float32, which takes twice as long; float32 takes no longer. On several
  devices the partitioner would gather an array whose layout is set.
  """
  if jax.device_count() > 1 or matrix.dtype == jnp.float32:
    return matrix.T

  def in_memory(matrix):
    return with_layout_constraint(matrix.T, Layout(major_to_minor=(0, 1)))

  return lax.platform_dependent(matrix, cpu=in_memory, default=jnp.transpose)
