"""BatchNorm, fused with a residual and ReLU after it.

`norm.py` has the form with the activation before the normalisation. As there,
the gradient is written by hand, so that nothing but what goes in and what comes
out is kept for it.

A backend computes 'batch_norm_sums', 'batch_norm_affine' and
'batch_norm_gradient'; `xla/batch_norm.py` documents the arguments.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from convmixer_jax.kernels import dispatch
from convmixer_jax.kernels.norm import SAVED_ACTIVATION, per_group, per_image
from convmixer_jax.kernels.xla import batch_norm as xla_batch_norm


def batch_norm(
  x: jax.Array,
  scale: jax.Array,
  offset: jax.Array,
  residual: jax.Array | None = None,
  *,
  relu: bool,
  group_size: int,
  epsilon: float,
  backend: str | None = None,
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
    backend: of float32: 'cpu' (C++ kernels for CPUs), 'xla' (plain JAX), or
      None: 'cpu' on CPUs if it can be compiled, else 'xla'. XLA computes what
      is in bfloat16. Only 'xla' has second derivatives.

  Returns:
    The result, like x; and mean and (biased) variance of each group,
    `[B // group_size, C]`, through which no gradient flows.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  dispatch.check_backend('batch_norm_sums', backend)
  if x.dtype != jnp.float32:
    backend = 'xla'
  y, mean, var = _batch_norm(
    x, scale, offset, residual, relu, group_size, epsilon, backend
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

  That is BatchNorm with running statistics. It is plain JAX on all platforms.

  Args:
    x: `[B, H, W, C]`, float32 or bfloat16.
    factor: `[C]`, float32, as shift.
    shift: like factor.
    residual: like x, or None.
    relu: whether ReLU follows.

  Returns:
    Shape and dtype of x, rounded once.
  """
  return xla_batch_norm.affine(x, factor, shift, residual, relu)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6, 7))
def _batch_norm(*arguments):
  return _forward(*arguments)[0]


def _forward(x, scale, offset, residual, relu, group_size, epsilon, backend):
  batch, height, width, _ = x.shape
  sums = per_group(dispatch.call('batch_norm_sums', backend, x), group_size)
  mean, mean_of_squares = jnp.unstack(
    sums / (group_size * height * width), axis=1
  )
  var = jnp.maximum(mean_of_squares - lax.square(mean), 0.0)
  mean, var = checkpoint_name((mean, var), SAVED_ACTIVATION)
  inverse = lax.rsqrt(var + epsilon)
  factor = inverse * scale
  y = dispatch.call(
    'batch_norm_affine',
    backend,
    x,
    per_image(factor, batch),
    per_image(offset - mean * factor, batch),
    residual,
    relu=relu,
  )
  saved = x, scale, mean, inverse, y if relu else None, residual is not None
  return (y, mean, var), saved


def _backward(relu, group_size, epsilon, backend, saved, cotangents):
  del relu, group_size, epsilon
  x, scale, mean, inverse, y, has_residual = saved
  return dispatch.call(
    'batch_norm_gradient',
    backend,
    *(x, cotangents[0], y, scale, mean, inverse),
    has_residual=has_residual,
  )


_batch_norm.defvjp(_forward, _backward)
