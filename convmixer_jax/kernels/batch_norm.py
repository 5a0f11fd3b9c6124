"""BatchNorm, fused with a residual and ReLU after it.

`norm.py` has the form with the activation before the normalisation. This one is
plain JAX on all platforms; its gradient is written by hand, so that nothing but
what goes in and what comes out is kept for it.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from convmixer_jax.kernels.norm import SAVED_ACTIVATION, per_group, per_image
from convmixer_jax.kernels.xla.norm import sum_over_space


def batch_norm(
  x: jax.Array,
  scale: jax.Array,
  offset: jax.Array,
  residual: jax.Array | None = None,
  *,
  relu: bool,
  group_size: int,
  epsilon: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Computes `BatchNorm(x) (+ residual)`, and ReLU of it, in training.

  Statistics, normalisation and all sums are float32; the result is rounded
  once.

  Args:
    x: `[B, H, W, C]`, float32 or bfloat16.
    scale: `[C]`, of BatchNorm.
    offset: `[C]`, of BatchNorm.
    residual: like x, or None.
    relu: whether ReLU follows.
    group_size: images that share statistics; divides B.
    epsilon: added to the variance.

  Returns:
    The result, like x; and mean and (biased) variance of each group,
    `[B // group_size, C]`, through which no gradient flows.
  """
  y, mean, var = _batch_norm(
    x, scale, offset, residual, relu, group_size, epsilon
  )
  return y, lax.stop_gradient(mean), lax.stop_gradient(var)


def affine(
  x: jax.Array,
  factor: jax.Array,
  shift: jax.Array,
  residual: jax.Array | None = None,
  *,
  relu: bool,
) -> jax.Array:
  """Computes `x * factor + shift (+ residual)`, and ReLU of it.

  That is BatchNorm with running statistics.

  Args:
    x: `[B, H, W, C]`, float32 or bfloat16.
    factor: `[C]`, or `[B, 1, 1, C]`; float32, as shift.
    shift: like factor.
    residual: like x, or None.
    relu: whether ReLU follows.

  Returns:
    Shape and dtype of x, rounded once.
  """
  y = x.astype(jnp.float32) * factor + shift
  if residual is not None:
    y += residual.astype(jnp.float32)
  return (jax.nn.relu(y) if relu else y).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _batch_norm(*arguments):
  return _forward(*arguments)[0]


def _forward(x, scale, offset, residual, relu, group_size, epsilon):
  batch, height, width, _ = x.shape
  values = x.astype(jnp.float32)
  sums = per_group(sum_over_space(values, values * values), group_size)
  mean, mean_of_squares = jnp.unstack(
    sums / (group_size * height * width), axis=1
  )
  var = jnp.maximum(mean_of_squares - lax.square(mean), 0.0)
  mean, var = checkpoint_name((mean, var), SAVED_ACTIVATION)
  inverse = lax.rsqrt(var + epsilon)
  factor = inverse * scale
  shift = offset - mean * factor
  y = affine(x, _rows(factor, batch), _rows(shift, batch), residual, relu=relu)
  saved = x, scale, mean, inverse, y if relu else None, residual is not None
  return (y, mean, var), saved


def _backward(relu, group_size, epsilon, saved, cotangents):
  # With n = (x - mean) inverse, over N values, the gradient of x is
  # scale inverse (g - sum(g) / N - n sum(g n) / N) = p g + q x + r.
  del epsilon
  x, scale, mean, inverse, y, has_residual = saved
  g = cotangents[0]
  if relu:
    g = jnp.where(y > 0, g, jnp.zeros_like(g))
  batch, height, width, _ = x.shape
  count = group_size * height * width
  values, slopes = x.astype(jnp.float32), g.astype(jnp.float32)
  sums = per_group(sum_over_space(slopes, slopes * values), group_size)
  sum_g, sum_gx = jnp.unstack(sums, axis=1)
  sum_gn = (sum_gx - mean * sum_g) * inverse
  p = scale * inverse
  q = -p * inverse * sum_gn / count
  r = -p * sum_g / count - q * mean
  p, q, r = (_rows(array, batch) for array in (p, q, r))
  dx = (p * slopes + q * values + r).astype(x.dtype)
  return dx, sum_gn.sum(0), sum_g.sum(0), g if has_residual else None


_batch_norm.defvjp(_forward, _backward)


def _rows(groups, batch):
  """Returns the values of each image, `[B, 1, 1, C]`, from its group's."""
  return per_image(groups, batch)[:, None, None]
