"""The maximum of 3 x 3 positions with stride 2, with a gradient.

A backend computes 'max_pool' and 'max_pool_gradient'; `xla/max_pool.py`
documents the arguments.
"""

import functools

import jax
import jax.numpy as jnp

from convmixer_jax.kernels import dispatch


def max_pool(x: jax.Array, *, backend: str | None = None) -> jax.Array:
  """Returns the maxima of 3 x 3 positions around every second one.

  The gradient goes to the first of equal values, as in PyTorch.

  Args:
    x: `[B, H, W, C]`.
    backend: of float32: 'cpu' (C++ kernels for CPUs), 'xla' (plain JAX), or
      None: 'cpu' on CPUs if it can be compiled, else 'xla'. XLA computes what
      is in another dtype. Only 'xla' has second derivatives.

  Returns:
    `[B, ceil(H / 2), ceil(W / 2), C]`, dtype of x.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  dispatch.check_backend('max_pool', backend)
  return _max_pool(x, backend if x.dtype == jnp.float32 else 'xla')


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x, backend):
  return dispatch.call('max_pool', backend, x)


def _forward(x, backend):
  y = _max_pool(x, backend)
  return y, (x, y)


def _backward(backend, saved, g):
  return (dispatch.call('max_pool_gradient', backend, *saved, g),)


_max_pool.defvjp(_forward, _backward)
