"""LayerNorm over the channels, with its gradient written down for CPUs.

A backend computes 'layer_norm' and 'layer_norm_gradient';
`xla/layer_norm.py` documents the arguments.
"""

import functools
import math

import jax
import jax.numpy as jnp

from convmixer_jax.kernels import dispatch
from convmixer_jax.kernels.xla import layer_norm as xla_layer_norm


def layer_norm(
  x: jax.Array,
  scale: jax.Array,
  offset: jax.Array,
  *,
  epsilon: float,
  dtype: jax.typing.DTypeLike | None = None,
  backend: str | None = None,
) -> jax.Array:
  """Computes `(x - mean) / sqrt(variance + epsilon) * scale + offset`.

  Mean and biased variance are those of the last axis, in float32. The variance
  is that of the deviations from the mean.

  The kernels for CPUs compute float32 images and tokens only; XLA computes all
  else, whatever the backend, by automatic differentiation of plain JAX.

  Args:
    x: `[..., C]`, float32 or bfloat16; images if `[B, H, W, C]`, tokens if
      `[B, N, C]`.
    scale: `[C]`, float32.
    offset: `[C]`, float32.
    epsilon: added to the variance.
    dtype: of the result; None for that of x.
    backend: 'cpu' (C++ kernels for CPUs), 'xla' (plain JAX), or None: 'cpu' on
      CPUs if it can be compiled, else 'xla'.

  Returns:
    The shape of x, rounded once.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  dispatch.check_backend('layer_norm', backend)
  dtype = x.dtype if dtype is None else dtype
  dtypes = {array.dtype for array in (x, scale, offset)} | {jnp.dtype(dtype)}
  if x.ndim not in (3, 4) or dtypes != {jnp.dtype('float32')}:
    backend = 'xla'
  backend = dispatch.cpu_or_xla(
    *('layer_norm', backend, x, scale, offset), epsilon=epsilon
  )
  if backend == 'xla':
    y, _, _ = xla_layer_norm.forward(x, scale, offset, epsilon)
    return y.astype(dtype)
  # Images are tokens in rows.
  batch, *grid, channels = x.shape
  tokens = x.reshape(batch, math.prod(grid), channels)
  return _layer_norm(tokens, scale, offset, epsilon, backend).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _layer_norm(x, scale, offset, epsilon, backend):
  return _forward(x, scale, offset, epsilon, backend)[0]


def _forward(x, scale, offset, epsilon, backend):
  y, mean, inverse = dispatch.call(
    'layer_norm', backend, x, scale, offset, epsilon=epsilon
  )
  return y, (x, mean, inverse, scale)


def _backward(epsilon, backend, saved, g):
  return dispatch.call(
    'layer_norm_gradient', backend, *saved, g, epsilon=epsilon
  )


_layer_norm.defvjp(_forward, _backward)
