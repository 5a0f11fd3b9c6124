"""Softmax attention, with its gradient written down.

A backend computes 'attention', 'attention_forward' and 'attention_gradient';
`xla/attention.py` documents the arguments.
"""

import functools

import jax
import jax.numpy as jnp

from convmixer_jax.kernels import dispatch


def attention(qkv: jax.Array, *, backend: str | None = None) -> jax.Array:
  """Computes `softmax(q k^T / sqrt(D)) v` for each image and head.

  Scores and softmax are float32, as are all sums; what is multiplied has the
  dtype of the operands.

  The kernels for CPUs compute float32 only, and XLA all else, whatever the
  backend. On an Intel Xeon they take 0.6 of XLA's time, forward and backward.
  XLA's products of a head reach a third of the rate of such kernels, and it
  copies qkv to put heads before tokens.

  Args:
    qkv: queries, keys and values, `[B, N, 3, heads, D]`, float32 or bfloat16,
      as a dense layer computes them.
    backend: 'cpu' (C++ kernels for CPUs), 'xla' (plain JAX), or None: 'cpu' on
      CPUs if it can be compiled, else 'xla'.

  Returns:
    `[B, N, heads, D]`, dtype of qkv.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  dispatch.check_backend('attention', backend)
  return _attention(qkv, backend if qkv.dtype == jnp.float32 else 'xla')


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _attention(qkv, backend):
  return dispatch.call('attention', backend, qkv)


def _forward(qkv, backend):
  y, p = dispatch.call('attention_forward', backend, qkv)
  return y, (qkv, p, y)


def _backward(backend, saved, g):
  return (dispatch.call('attention_gradient', backend, *saved, g),)


_attention.defvjp(_forward, _backward)
