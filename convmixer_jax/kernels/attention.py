"""Softmax attention, with its gradient written down.

Heads come before tokens: `jax.nn.dot_product_attention` has them after, so that
XLA:CPU copies each operand and each gradient. This takes three quarters of its
time there, forward and backward.
"""

import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax.kernels.xla.rounded_dot import rounded_dot


@jax.custom_vjp
def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  """Computes `softmax(q k^T / sqrt(D)) v` for each image and head.

  Scores and softmax are float32, as are all sums; what is multiplied has the
  dtype of the operands.

  Args:
    q: queries `[B, heads, N, D]`, float32 or bfloat16.
    k: keys, like q.
    v: values, like q.

  Returns:
    Shape and dtype of q.
  """
  return _rounded_product(_probabilities(q, k), v, 3, 2)


def _probabilities(q, k):
  """Returns `[B, heads, N, N]` of the keys for each query, the dtype of q."""
  scores = _product(q, k, 3, 3) * q.shape[-1] ** -0.5
  return jax.nn.softmax(scores, axis=-1).astype(q.dtype)


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


def _forward(q, k, v):
  p = _probabilities(q, k)
  y = _rounded_product(p, v, 3, 2)
  return y, (q, k, v, p, y)


def _backward(saved, g):
  # With P of softmax, the gradient of the scores is P (dP - rowsum(P dP)), and
  # the sum is that of g y: shorter rows.
  q, k, v, p, y = saved
  dv = _rounded_product(p, g, 2, 2)
  row_sums = jnp.sum(
    g.astype(jnp.float32) * y.astype(jnp.float32), axis=-1, keepdims=True
  )
  slopes = _product(g, v, 3, 3) - row_sums
  slopes *= p.astype(jnp.float32) * q.shape[-1] ** -0.5
  slopes = slopes.astype(q.dtype)
  dq = _rounded_product(slopes, k, 3, 2)
  dk = _rounded_product(slopes, q, 2, 2)
  return dq, dk, dv


attention.defvjp(_forward, _backward)
