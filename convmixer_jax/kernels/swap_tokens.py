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
  dispatch.check_backend('swap_tokens', backend)
  if x.dtype != jnp.float32:
    return x.swapaxes(1, 2)
  return _swap(x, backend)


def swap_back(x: jax.Array, *, backend: str | None = None) -> jax.Array:
  """Returns what `swap_tokens` does, where it is then added to other tokens.

  XLA computes it together with the sum; the gradient is that of `swap_tokens`.
  """
  dispatch.check_backend('swap_tokens', backend)
  if x.dtype != jnp.float32:
    return x.swapaxes(1, 2)
  return _swap_back(x, backend)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _swap(x, backend):
  return dispatch.call('swap_tokens', backend, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _swap_back(x, backend):
  return x.swapaxes(1, 2)


_swap.defvjp(
  lambda x, backend: (_swap(x, backend), None),
  lambda backend, _, g: (_swap(g, backend),),
)
_swap_back.defvjp(
  lambda x, backend: (_swap_back(x, backend), None),
  lambda backend, _, g: (_swap(g, backend),),
)
