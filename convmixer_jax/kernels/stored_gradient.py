"""A value whose gradient XLA computes once and stores.

A backend computes 'stored', the identity.
"""

import jax

from convmixer_jax.kernels import dispatch


@jax.custom_vjp
def stored_gradient(x: jax.Array) -> jax.Array:
  """Returns x, a sum in a chain of residual connections.

  The gradient of such a sum is that of the next sum, and what one layer adds.
  XLA:CPU does not store it, but adds up the layers again in each operation that
  reads it: in an MLP-Mixer of 4 blocks up to 15 arrays, with 12 blocks for a
  third of a training step. `optimization_barrier` does not keep it from this.

  Args:
    x: `[B, N, C]`.
  """
  return x


def _forward(x):
  return x, None


def _backward(_, g):
  return (dispatch.call('stored', None, g),)


stored_gradient.defvjp(_forward, _backward)
