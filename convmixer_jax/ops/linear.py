"""The pointwise product: a matrix product over the last axis, with a bias."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def linear(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
  """Computes `x @ kernel + bias` in the dtype of `x`.

  A 1 x 1 convolution, a patch embedding and a dense layer are all this. Sums
  run in float32, and so do the gradients of `kernel` and `bias`: autodiff would
  give them the dtype of `x`, and a gradient in bfloat16 would be reduced across
  devices in bfloat16.

  Args:
    x: `[..., I]`, float32 or bfloat16.
    kernel: `[I, O]`, the parameter in its own dtype.
    bias: `[O]`, likewise.

  Returns:
    `[..., O]`, dtype of `x`.
  """
  product = jnp.dot(
    x, kernel.astype(x.dtype), preferred_element_type=jnp.float32
  )
  return (product + bias.astype(jnp.float32)).astype(x.dtype)


def _forward(x, kernel, bias):
  return linear(x, kernel, bias), (x, kernel, bias)


def _backward(saved, g):
  x, kernel, bias = saved
  # As matrices: XLA:CPU is slow to contract several axes at once.
  rows, g_rows = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
  dx = jnp.dot(
    g_rows, kernel.astype(x.dtype).T, preferred_element_type=jnp.float32
  )
  dkernel = jnp.dot(rows.T, g_rows, preferred_element_type=jnp.float32)
  dbias = jnp.sum(g_rows, axis=0, dtype=jnp.float32)
  return (
    dx.astype(x.dtype).reshape(x.shape),
    dkernel.astype(kernel.dtype),
    dbias.astype(bias.dtype),
  )


linear.defvjp(_forward, _backward)
