"""A factor and an offset of each channel, with their gradients written down.

A backend computes the sums of the gradients, 'norm_sums'; `xla/norm.py`
documents the arguments.
"""

import functools
import math

import jax
import jax.numpy as jnp

from convmixer_jax.kernels import dispatch, norm


def channel_affine(
  x: jax.Array,
  scale: jax.Array,
  offset: jax.Array | None = None,
  *,
  dtype: jax.typing.DTypeLike | None = None,
  backend: str | None = None,
) -> jax.Array:
  """Computes `x * scale (+ offset)` in float32.

  XLA computes it, and fuses it with what is before and after. Of the gradient
  it would sum g x and g in passes of their own; the kernels for CPUs do so in
  one, for float32 images and tokens. All else is automatic.

  Args:
    x: `[..., C]`, float32 or bfloat16; images if `[B, H, W, C]`, tokens if
      `[B, N, C]`.
    scale: `[C]`, float32.
    offset: `[C]`, float32; or None.
    dtype: of the result; None for that of x.
    backend: of the sums; 'cpu' (C++ kernels for CPUs), 'xla' (plain JAX), or
      None: 'cpu' on CPUs if it can be compiled, else 'xla'.

  Returns:
    The shape of x, rounded once.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  dispatch.check_backend('norm_sums', backend)
  dtype = x.dtype if dtype is None else dtype
  weights = [scale] if offset is None else [scale, offset]
  dtypes = {array.dtype for array in (x, *weights)} | {jnp.dtype(dtype)}
  if x.ndim not in (3, 4) or dtypes != {jnp.dtype('float32')}:
    backend = 'xla'
  backend = dispatch.cpu_or_xla(
    *('norm_sums', backend, x, scale, x), activation=None
  )
  if backend == 'xla':
    return _plain(x, scale, offset).astype(dtype)
  return _affine(x, scale, offset, backend)


def _plain(x, scale, offset):
  y = x.astype(jnp.float32) * scale
  return y if offset is None else y + offset


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _affine(x, scale, offset, backend):
  return _plain(x, scale, offset)


def _forward(x, scale, offset, backend):
  return _affine(x, scale, offset, backend), (x, scale, offset is not None)


def _backward(backend, saved, g):
  x, scale, has_offset = saved
  batch, *grid, channels = x.shape
  images, slopes = (
    array.reshape(batch, math.prod(grid), 1, channels) for array in (x, g)
  )
  zero = jnp.zeros_like(scale)
  sums = norm.image_sums(backend, images, zero, slopes, None).sum(0)
  return g * scale, sums[1], sums[0] if has_offset else None


_affine.defvjp(_forward, _backward)
