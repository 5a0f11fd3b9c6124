"""The pointwise product: a matrix product over the last axis."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint


@jax.custom_vjp
def linear(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Computes `x @ kernel` in the dtype of `x`.

  A 1 x 1 convolution, a patch embedding and a dense layer are all this. Sums
  run in float32, and so does the gradient of `kernel`: autodiff would give it
  the dtype of `x`, and a gradient in bfloat16 would be reduced across devices
  in bfloat16.

  Args:
    x: `[..., I]`, float32 or bfloat16.
    kernel: `[I, O]`, the parameter in its own dtype.

  Returns:
    `[..., O]`, dtype of `x`.
  """
  return jnp.dot(
    x, kernel.astype(x.dtype), preferred_element_type=jnp.float32
  ).astype(x.dtype)


def _forward(x, kernel):
  return linear(x, kernel), (x, kernel)


def _backward(saved, g):
  x, kernel = saved
  # As matrices: XLA:CPU is slow to contract several axes at once.
  rows, g_rows = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
  dx = jnp.dot(
    g_rows,
    _transposed(kernel.astype(x.dtype)),
    preferred_element_type=jnp.float32,
  )
  dkernel = jnp.dot(
    _transposed(rows), g_rows, preferred_element_type=jnp.float32
  )
  return dx.astype(x.dtype).reshape(x.shape), dkernel.astype(kernel.dtype)


@jax.jit  # outside of one, layouts belong to arrays
def _transposed(matrix):
  """Transposes; on a CPU bfloat16 in memory, as XLA multiplies it only so.

  Reading a matrix across, it converts bfloat16 to float32 first: half as fast;
  float32 is as fast across. On several devices the partitioner would gather
  what has its layout set.
  """
  if jax.device_count() > 1 or matrix.dtype == jnp.float32:
    return matrix.T

  def in_memory(matrix):
    return with_layout_constraint(matrix.T, Layout(major_to_minor=(0, 1)))

  return lax.platform_dependent(matrix, cpu=in_memory, default=jnp.transpose)


linear.defvjp(_forward, _backward)
