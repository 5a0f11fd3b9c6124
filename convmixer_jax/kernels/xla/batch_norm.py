"""BatchNorm with a residual and ReLU after it, in plain JAX, which XLA fuses.

`sums`, `affine` and `gradient` have the interface that every backend's have; it
is documented here.
"""

import jax
import jax.numpy as jnp

from convmixer_jax.kernels.norm import (
  coefficients_from_sums,
  per_group,
  per_image,
)
from convmixer_jax.kernels.xla.norm import sum_over_space


def sums(x: jax.Array) -> jax.Array:
  """Sums (x, x^2) over each image.

  Args:
    x: `[B, H, W, C]`.

  Returns:
    `[B, 2, C]`, float32.
  """
  values = x.astype(jnp.float32)
  return sum_over_space(values, values * values)


def affine(
  x: jax.Array,
  factor: jax.Array,
  shift: jax.Array,
  residual: jax.Array | None,
  relu: bool,
) -> jax.Array:
  """Computes `x * factor + shift (+ residual)`, and ReLU of it.

  Args:
    x: `[B, H, W, C]`.
    factor: `[B, C]`, or `[C]`; float32.
    shift: like factor.
    residual: like x, or None.
    relu: whether ReLU follows.

  Returns:
    Shape and dtype of x, rounded once.
  """
  if factor.ndim > 1:
    factor, shift = factor[:, None, None], shift[:, None, None]
  y = x.astype(jnp.float32) * factor + shift
  if residual is not None:
    y += residual.astype(jnp.float32)
  return (jax.nn.relu(y) if relu else y).astype(x.dtype)


def gradient(
  x: jax.Array,
  g: jax.Array,
  y: jax.Array | None,
  scale: jax.Array,
  mean: jax.Array,
  inverse: jax.Array,
  has_residual: bool,
) -> tuple[jax.Array | None, ...]:
  """Computes the gradients of x, scale, offset and residual.

  Args:
    x: `[B, H, W, C]`.
    g: the gradient of the result, like x.
    y: the result, if ReLU follows, else None.
    scale: `[C]`, of BatchNorm, float32.
    mean: of each group of images, `[B // group_size, C]`, float32.
    inverse: like mean, of the standard deviation.
    has_residual: whether one was added.

  Returns:
    The gradients of x, scale and offset; and that of the residual, or None.
  """
  if y is not None:
    g = jnp.where(y > 0, g, jnp.zeros_like(g))
  batch, height, width, _ = x.shape
  group_size = batch // mean.shape[0]
  values, slopes = x.astype(jnp.float32), g.astype(jnp.float32)
  coefficients, dscale, doffset = coefficients_from_sums(
    per_group(sum_over_space(slopes, slopes * values), group_size),
    *(scale, mean, inverse, group_size * height * width),
  )
  p, q, r = (per_image(array, batch)[:, None, None] for array in coefficients)
  dx = (p * slopes + q * values + r).astype(x.dtype)
  return dx, dscale, doffset, g if has_residual else None
