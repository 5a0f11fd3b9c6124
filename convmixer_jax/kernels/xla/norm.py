"""Bias, activation, BatchNorm and residual in plain JAX, which XLA fuses.

The functions have the interface that every backend's have; it is documented
here.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax.kernels.gelu import gelu, gelu_for_bfloat16

_ACTIVATIONS: dict[str | None, Callable[[jax.Array], jax.Array]] = {
  'gelu': gelu,
  'relu': jax.nn.relu,
  None: lambda x: x,
}


def sums(
  x: jax.Array, bias: jax.Array, g: jax.Array | None, activation: str | None
) -> jax.Array:
  """Sums (a, a^2) over each image, or if `g` is given, (g, g a).

  a is activation(x + bias), here and below.

  Args:
    x: `[B, H, W, C]`.
    bias: `[C]`, float32.
    g: like x, or None.
    activation: 'gelu' or 'relu'; or None for x itself, if `g` is given.

  Returns:
    `[B, 2, C]`, float32.
  """
  a = _activated(x, bias, activation, *([] if g is None else [g]))
  first = a if g is None else g.astype(jnp.float32)
  return sum_over_space(first, first * a)


def sum_over_space(first: jax.Array, second: jax.Array) -> jax.Array:
  """Sums two `[B, H, W, C]` over space, to `[B, 2, C]`."""
  return lax.platform_dependent(
    first, second, cuda=sum_together, default=_sum_each
  )


def _sum_each(first, second):
  return jnp.stack([first.sum((1, 2)), second.sum((1, 2))], axis=1)


def sum_together(first: jax.Array, second: jax.Array) -> jax.Array:
  """Sums two `[B, H, W, C]` over space, to `[B, 2, C]`, in one reduction.

  XLA:GPU does not always fuse two reductions of the same arrays.
  """
  zero = jnp.float32(0)
  sums = lax.reduce(
    (first, second),
    (zero, zero),
    lambda totals, values: tuple(map(jnp.add, totals, values)),
    (1, 2),
  )
  return jnp.stack(sums, axis=1)


def affine(
  x: jax.Array,
  bias: jax.Array,
  factor: jax.Array,
  shift: jax.Array,
  residual: jax.Array | None,
  activation: str,
) -> jax.Array:
  """Computes `a * factor + shift (+ residual)`.

  Args:
    x: `[B, H, W, C]`.
    bias: `[C]`, float32.
    factor: `[B, C]`, float32.
    shift: `[B, C]`, float32.
    residual: like x, or None.
    activation: 'gelu' or 'relu'.

  Returns:
    Shape and dtype of x, rounded once.
  """
  a = _activated(x, bias, activation, factor)
  y = a * factor[:, None, None] + shift[:, None, None]
  if residual is not None:
    y += residual.astype(jnp.float32)
  # Otherwise XLA:GPU writes y in float32 too, to read it as a residual after
  # the next convolution.
  return lax.platform_dependent(
    y.astype(x.dtype), cuda=lax.optimization_barrier, default=lambda y: y
  )


def gradient(
  x: jax.Array,
  bias: jax.Array,
  g: jax.Array,
  p: jax.Array,
  q: jax.Array,
  r: jax.Array,
  activation: str,
) -> tuple[jax.Array, jax.Array]:
  """Computes `dx = activation'(x + bias) * (p g + q a + r)`.

  Args:
    x: `[B, H, W, C]`.
    bias: `[C]`, float32.
    g: like x.
    p: `[B, C]`, float32, as q and r.
    q: of a.
    r: the constant.
    activation: 'gelu' or 'relu'.

  Returns:
    dx like x, and its sums over each image, `[B, C]` in float32.
  """
  shifted = x.astype(jnp.float32) + bias
  a, pull = jax.vjp(_ACTIVATIONS[activation], shifted)
  p, q, r = (array[:, None, None] for array in (p, q, r))
  (dx,) = pull(p * g.astype(jnp.float32) + q * a + r)
  return dx.astype(x.dtype), dx.sum((1, 2))


def _activated(x, bias, activation, *others):
  """Returns activation(x + bias) in float32.

  XLA:GPU must not know that it was computed before, for the sums or for
  another pass: it may then write it to memory in float32, which takes longer
  than to read x again. `others` are only in time with x.
  """
  if x.dtype != jnp.bfloat16 or activation != 'gelu':
    return _ACTIVATIONS[activation](x.astype(jnp.float32) + bias)
  x = lax.platform_dependent(
    *(x, *others),
    cuda=lambda *arrays: lax.optimization_barrier(arrays)[0],
    default=lambda x, *_: x,
  )
  return gelu_for_bfloat16(x.astype(jnp.float32) + bias)
