"""Tokens and channels in each other's place, with a gradient.

A backend computes 'swap_tokens'; the gradient is the same operation.
"""

import functools

import jax
import jax.numpy as jnp

from convmixer_jax.kernels import dispatch


def swap_tokens(x: jax.Array, *, backend: str | None = None) -> jax.Array:
  """Returns `[B, C, N]` for tokens x `[B, N, C]`, in memory.

  Args:
    x: `[B, N, C]`.
    backend: of float32: 'cpu' (C++ kernels for CPUs), 'xla' (plain JAX), or
      None: 'cpu' on CPUs if it can be compiled, else 'xla'. XLA computes what
      is in another dtype.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  backend = _cpu_or_xla(x, backend)
  return x.swapaxes(1, 2) if backend == 'xla' else _swap(x, backend, backend)


def swap_back(x: jax.Array, *, backend: str | None = None) -> jax.Array:
  """Returns what `swap_tokens` does, where it is then added to other tokens.

  XLA computes it together with the sum; the gradient is that of `swap_tokens`.
  """
  backend = _cpu_or_xla(x, backend)
  return x.swapaxes(1, 2) if backend == 'xla' else _swap(x, 'xla', backend)


def _cpu_or_xla(x, backend):
  dispatch.check_backend('swap_tokens', backend)
  if x.dtype != jnp.float32:
    return 'xla'
  return dispatch.cpu_or_xla('swap_tokens', backend, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _swap(x, backend, backward):
  return dispatch.call('swap_tokens', backend, x)


def _forward(x, backend, backward):
  return _swap(x, backend, backward), None


def _backward(backend, backward, _, g):
  return (_swap(g, backward, backward),)


_swap.defvjp(_forward, _backward)
