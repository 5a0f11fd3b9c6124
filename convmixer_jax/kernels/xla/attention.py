"""Softmax attention in plain JAX.

A backend computes 'attention', 'attention_forward' and 'attention_gradient',
with the arguments of `attention`, `forward` and `gradient` here.

Heads come before tokens in the products: `jax.nn.dot_product_attention` has
them after, so that XLA:CPU copies each operand and each gradient. This takes
three quarters of its time there, forward and backward.
"""

import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax.kernels.xla.rounded_dot import rounded_dot


def attention(qkv: jax.Array) -> jax.Array:
  """Computes the attention `[B, N, heads, D]` of qkv `[B, N, 3, heads, D]`."""
  return forward(qkv)[0]


def forward(qkv: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns it, and the probabilities `[B, heads, N, N]`, the dtype of qkv."""
  q, k, v = _heads_first(qkv)
  scores = _product(q, k, 3, 3) * q.shape[-1] ** -0.5
  p = jax.nn.softmax(scores, axis=-1).astype(q.dtype)
  return _rounded_product(p, v, 3, 2).swapaxes(1, 2), p


def gradient(
  qkv: jax.Array, p: jax.Array, y: jax.Array, g: jax.Array
) -> jax.Array:
  """Returns the gradient of qkv.

  Args:
    qkv: `[B, N, 3, heads, D]`.
    p: the probabilities.
    y: the attention.
    g: its gradient.
  """
  # With P of softmax, the gradient of the scores is P (dP - rowsum(P dP)), and
  # the sum is that of g y: shorter rows.
  q, k, v = _heads_first(qkv)
  y, g = y.swapaxes(1, 2), g.swapaxes(1, 2)
  dv = _rounded_product(p, g, 2, 2)
  row_sums = jnp.sum(
    g.astype(jnp.float32) * y.astype(jnp.float32), axis=-1, keepdims=True
  )
  slopes = _product(g, v, 3, 3) - row_sums
  slopes *= p.astype(jnp.float32) * q.shape[-1] ** -0.5
  slopes = slopes.astype(q.dtype)
  dq = _rounded_product(slopes, k, 3, 2)
  dk = _rounded_product(slopes, q, 2, 2)
  return jnp.stack([dq, dk, dv]).transpose(1, 3, 0, 2, 4)


def _heads_first(qkv):
  """Returns q, k and v, `[B, heads, N, D]`: one transposition for all three."""
  return qkv.transpose(2, 0, 3, 1, 4)


def _product(a, b, axis, other_axis):
  """Multiplies matrices, summing over an axis of each; float32."""
  return lax.dot_general(
    *(a, b, _dimensions(axis, other_axis)), preferred_element_type=jnp.float32
  )


def _rounded_product(a, b, axis, other_axis):
  """The same, rounded to the dtype of the operands."""
  return rounded_dot(a, b, _dimensions(axis, other_axis))


def _dimensions(axis, other_axis):
  return ((axis,), (other_axis,)), ((0, 1), (0, 1))
