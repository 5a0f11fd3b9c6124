"""BatchNorm with what stands around it: bias, activation and residual.

Each is one pass over memory by itself, and on a CPU that is what a ConvMixer's
time goes into. Here they are one operation, with its gradient written down.

An implementation is a module with three functions: `sums`, `affine` and
`gradient` (see `norm_xla.py`).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from convmixer_jax.kernels.cpu import library
from convmixer_jax.kernels.cpu import norm as norm_cpu
from convmixer_jax.kernels.xla import norm as norm_xla

_MODULES = {'native': norm_cpu, 'xla': norm_xla}
ACTIVATIONS = ('gelu', 'relu')
KEPT = 'kept'  # name of what a loop over blocks keeps for the backward pass


def activation_batch_norm(
  x: jax.Array,
  bias: jax.Array | None,
  scale: jax.Array,
  offset: jax.Array,
  residual: jax.Array | None = None,
  *,
  activation: str,
  group_size: int,
  epsilon: float,
  implementation: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Computes `BatchNorm(activation(x + bias)) (+ residual)`, in training.

  Statistics, normalisation and all sums are float32; the result is rounded
  once.

  Args:
    x: `[B, H, W, C]`, float32 or bfloat16.
    bias: `[C]`, or None for none.
    scale: `[C]`, of BatchNorm.
    offset: `[C]`, of BatchNorm.
    residual: like x, or None.
    activation: 'gelu' (exact) or 'relu'.
    group_size: images that share statistics; divides B.
    epsilon: added to the variance.
    implementation: 'native' (C++ kernels for CPUs), 'xla' (plain JAX), or None:
      the best for the platform the computation is lowered for.

  Returns:
    The normalised images, like x; and mean and (biased) variance of each group,
    `[B // group_size, C]`, through which no gradient flows.
  """
  bias = jnp.zeros_like(scale) if bias is None else bias
  y, mean, var = _batch_norm(
    x, bias, scale, offset, residual, activation, group_size, epsilon,
    implementation,
  )  # fmt: skip
  return y, lax.stop_gradient(mean), lax.stop_gradient(var)


def activation_affine(
  x: jax.Array,
  bias: jax.Array | None,
  factor: jax.Array,
  shift: jax.Array,
  residual: jax.Array | None = None,
  *,
  activation: str,
  implementation: str | None = None,
) -> jax.Array:
  """Computes `activation(x + bias) * factor + shift (+ residual)`.

  That is BatchNorm with running statistics. Arguments and result are as in
  `activation_batch_norm`; factor and shift are `[C]`.
  """
  bias = jnp.zeros_like(factor) if bias is None else bias
  return _affine(x, bias, factor, shift, residual, activation, implementation)


def activation_mean(
  x: jax.Array,
  bias: jax.Array,
  *,
  activation: str,
  implementation: str | None = None,
) -> jax.Array:
  """Computes the mean of `activation(x + bias)` over space, for inference.

  Arguments are as in `activation_batch_norm`. No gradient is defined.

  Returns:
    `[B, C]`, float32.
  """
  sums = _call('sums', implementation, x, bias, None, activation)
  return sums[:, 0] / (x.shape[1] * x.shape[2])


def _call(function: str, implementation: str | None, *operands):
  *arrays, activation = operands

  def of(name):
    run = getattr(_MODULES[name], function)
    return lambda *arrays: run(*arrays, activation)

  if implementation is not None:
    return of(implementation)(*arrays)
  if jax.default_backend() == 'cpu' and library.is_available('norm'):
    return lax.platform_dependent(*arrays, cpu=of('native'), default=of('xla'))
  return of('xla')(*arrays)


def _per_image(groups: jax.Array, batch: int) -> jax.Array:
  return jnp.repeat(groups, batch // groups.shape[0], axis=0)


def _per_group(images: jax.Array, group_size: int) -> jax.Array:
  return images.reshape(-1, group_size, *images.shape[1:]).sum(1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7, 8))
def _batch_norm(*arguments):
  return _batch_norm_forward(*arguments)[0]


def _batch_norm_forward(
  x, bias, scale, offset, residual, activation, group_size, epsilon,
  implementation,
):  # fmt: skip
  batch, height, width, _ = x.shape
  sums = _call('sums', implementation, x, bias, None, activation)
  mean, mean_of_squares = jnp.unstack(
    _per_group(sums, group_size) / (group_size * height * width), axis=1
  )
  var = jnp.maximum(mean_of_squares - lax.square(mean), 0.0)
  mean, var = checkpoint_name((mean, var), KEPT)
  inverse = lax.rsqrt(var + epsilon)
  factor = inverse * scale
  y = _call(
    'affine',
    implementation,
    x,
    bias,
    _per_image(factor, batch),
    _per_image(offset - mean * factor, batch),
    residual,
    activation,
  )
  saved = x, bias, scale, mean, inverse, residual is not None
  return (y, mean, var), saved


def _batch_norm_backward(
  activation, group_size, epsilon, implementation, saved, cotangents
):
  # With n = (a - mean) inverse, over N values, the gradient of a is
  # scale inverse (g - sum(g) / N - n sum(g n) / N) = p g + q a + r.
  x, bias, scale, mean, inverse, has_residual = saved
  g = cotangents[0]
  batch, height, width, _ = x.shape
  count = group_size * height * width
  sums = _call('sums', implementation, x, bias, g, activation)
  sum_g, sum_ga = jnp.unstack(_per_group(sums, group_size), axis=1)
  sum_gn = (sum_ga - mean * sum_g) * inverse
  p = scale * inverse
  q = -p * inverse * sum_gn / count
  r = -p * sum_g / count - q * mean
  dx, sum_dx = _call(
    'gradient',
    implementation,
    x,
    bias,
    g,
    *(_per_image(array, batch) for array in (p, q, r)),
    activation,
  )
  return (
    dx,
    sum_dx.sum(0),
    sum_gn.sum(0),
    sum_g.sum(0),
    g if has_residual else None,
  )


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _affine(x, bias, factor, shift, residual, activation, implementation):
  batch = x.shape[0]
  factor, shift = (
    jnp.broadcast_to(array, (batch, *array.shape)) for array in (factor, shift)
  )
  return _call(
    'affine', implementation, x, bias, factor, shift, residual, activation
  )


def _affine_forward(*arguments):
  x, bias, factor, _, residual = arguments[:5]
  return _affine(*arguments), (x, bias, factor, residual is not None)


def _affine_backward(activation, implementation, saved, g):
  x, bias, factor, has_residual = saved
  sums = _call('sums', implementation, x, bias, g, activation).sum(0)
  rows = jnp.broadcast_to(factor, (x.shape[0], *factor.shape))
  zeros = jnp.zeros_like(rows)
  dx, sum_dx = _call(
    'gradient', implementation, x, bias, g, rows, zeros, zeros, activation
  )
  return dx, sum_dx.sum(0), sums[1], sums[0], g if has_residual else None


_affine.defvjp(_affine_forward, _affine_backward)
