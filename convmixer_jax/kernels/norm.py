"""BatchNorm, fused with the bias and activation before it and a residual after.

Computed one by one, each is a pass over memory, and on a CPU most of a
ConvMixer's time is such passes. Here they are one operation, whose gradient is
written by hand.

A backend computes 'norm_sums', 'norm_affine' and 'norm_gradient';
`xla/norm.py` documents the arguments.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from convmixer_jax.kernels import dispatch

ACTIVATIONS = ('gelu', 'relu')
# The name by which `jax.checkpoint` finds what a loop over blocks saves for the
# backward pass.
SAVED_ACTIVATION = 'saved_activation'


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
  backend: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Computes `BatchNorm(activation(x + bias)) (+ residual)`, in training.

  Statistics, normalisation and all sums are float32; the result is rounded
  once.

  Args:
    x: `[B, H, W, C]`, float32 or bfloat16.
    bias: `[C]`, or None.
    scale: `[C]`, of BatchNorm.
    offset: `[C]`, of BatchNorm.
    residual: like x, or None.
    activation: 'gelu' (exact) or 'relu'.
    group_size: images that share statistics; divides B.
    epsilon: added to the variance.
    backend: 'cpu' (C++ kernels for CPUs), 'xla' (plain JAX), or None: 'cpu' on
      CPUs if it can be compiled, else 'xla'.

  Returns:
    The normalised images, like x; and mean and (biased) variance of each group,
    `[B // group_size, C]`, through which no gradient flows.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  bias = jnp.zeros_like(scale) if bias is None else bias
  y, mean, var = _batch_norm(
    x, bias, scale, offset, residual, activation, group_size, epsilon,
    backend,
  )  # fmt: skip
  return y, lax.stop_gradient(mean), lax.stop_gradient(var)


def activation_mean(
  x: jax.Array,
  bias: jax.Array,
  *,
  activation: str,
  backend: str | None = None,
) -> jax.Array:
  """Computes the mean of `activation(x + bias)` over space, for inference.

  Arguments and errors are as in `activation_batch_norm`. No gradient is
  defined.

  Returns:
    `[B, C]`, float32.
  """
  sums = image_sums(backend, x, bias, None, activation)
  return sums[:, 0] / (x.shape[1] * x.shape[2])


def image_sums(
  backend: str | None,
  x: jax.Array,
  bias: jax.Array,
  g: jax.Array | None,
  activation: str | None,
) -> jax.Array:
  """Computes 'norm_sums', `[B, 2, C]`."""
  return dispatch.call('norm_sums', backend, x, bias, g, activation=activation)


def per_image(groups: jax.Array, batch: int) -> jax.Array:
  """Returns `[batch, ...]`: of each image, the values of its group."""
  return jnp.repeat(groups, batch // groups.shape[0], axis=0)


def per_group(images: jax.Array, group_size: int) -> jax.Array:
  """Sums `[B, ...]` over the images of each group."""
  return images.reshape(-1, group_size, *images.shape[1:]).sum(1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7, 8))
def _batch_norm(*arguments):
  return _batch_norm_forward(*arguments)[0]


def _batch_norm_forward(
  x, bias, scale, offset, residual, activation, group_size, epsilon,
  backend,
):  # fmt: skip
  sums = group_sums(x, bias, activation, group_size, backend)
  return forward_from_sums(
    x, bias, scale, offset, residual, sums, activation, epsilon, backend
  )


def group_sums(
  x: jax.Array,
  bias: jax.Array,
  activation: str,
  group_size: int,
  backend: str | None,
) -> jax.Array:
  """Sums a and a^2, a being `activation(x + bias)`, over each group of images.

  Returns:
    `[B // group_size, 2, C]`, float32.
  """
  return per_group(image_sums(backend, x, bias, None, activation), group_size)


def forward_from_sums(
  x: jax.Array,
  bias: jax.Array,
  scale: jax.Array,
  offset: jax.Array,
  residual: jax.Array | None,
  sums: jax.Array,
  activation: str,
  epsilon: float,
  backend: str | None,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[Any, ...]]:
  """Computes `activation_batch_norm`, and what `backward` has to know.

  Args are as there, and `sums` is what `group_sums` returns.
  """
  batch, height, width, _ = x.shape
  count = batch // sums.shape[0] * height * width
  mean, mean_of_squares = jnp.unstack(sums / count, axis=1)
  var = jnp.maximum(mean_of_squares - lax.square(mean), 0.0)
  mean, var = checkpoint_name((mean, var), SAVED_ACTIVATION)
  inverse = lax.rsqrt(var + epsilon)
  factor = inverse * scale
  y = dispatch.call(
    'norm_affine',
    backend,
    x,
    bias,
    per_image(factor, batch),
    per_image(offset - mean * factor, batch),
    residual,
    activation=activation,
  )
  saved = x, bias, scale, mean, inverse, residual is not None
  return (y, mean, var), saved


def _batch_norm_backward(
  activation, group_size, epsilon, backend, saved, cotangents
):
  return backward(activation, group_size, backend, saved, cotangents[0])


def backward(
  activation: str,
  group_size: int,
  backend: str | None,
  saved: tuple[Any, ...],
  g: jax.Array,
) -> tuple[jax.Array | None, ...]:
  """Returns the gradients of x, bias, scale, offset and residual.

  Args are as in `gradient_coefficients`.
  """
  x, bias, *_, has_residual = saved
  coefficients, dscale, doffset = gradient_coefficients(
    activation, group_size, backend, saved, g
  )
  dx, dbias = gradient_before(x, bias, g, coefficients, activation, backend)
  return dx, dbias, dscale, doffset, g if has_residual else None


def gradient_coefficients(
  activation: str,
  group_size: int,
  backend: str | None,
  saved: tuple[Any, ...],
  g: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array, jax.Array]:
  """Returns (p, q, r), `[B // group_size, C]`, and those of scale and offset.

  The gradient of a = activation(x + bias) is p g + q a + r.

  Args:
    activation: as in `activation_batch_norm`, like group_size and backend.
    group_size: as there.
    backend: as there.
    saved: from `forward_from_sums`.
    g: the gradient of the normalised images.
  """
  x, bias, scale, mean, inverse, _ = saved
  _, height, width, _ = x.shape
  sums = image_sums(backend, x, bias, g, activation)
  return coefficients_from_sums(
    per_group(sums, group_size),
    *(scale, mean, inverse, group_size * height * width),
  )


def coefficients_from_sums(
  sums: jax.Array,
  scale: jax.Array,
  mean: jax.Array,
  inverse: jax.Array,
  count: int,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array, jax.Array]:
  """Returns the same as `gradient_coefficients`.

  Args:
    sums: of (g, g a) over each group of images, `[B // group_size, 2, C]`.
    scale: `[C]`, of BatchNorm.
    mean: of a over each group, `[B // group_size, C]`.
    inverse: of a's standard deviation, like mean.
    count: values of a group in a channel.
  """
  # With n = (a - mean) inverse, over N values, the gradient of a is
  # scale inverse (g - sum(g) / N - n sum(g n) / N) = p g + q a + r.
  sum_g, sum_ga = jnp.unstack(sums, axis=1)
  sum_gn = (sum_ga - mean * sum_g) * inverse
  p = scale * inverse
  q = -p * inverse * sum_gn / count
  r = -p * sum_g / count - q * mean
  return (p, q, r), sum_gn.sum(0), sum_g.sum(0)


def gradient_before(
  x: jax.Array,
  bias: jax.Array,
  g: jax.Array,
  coefficients: tuple[jax.Array, jax.Array, jax.Array],
  activation: str,
  backend: str | None,
) -> tuple[jax.Array, jax.Array]:
  """Returns the gradients of x and bias, given `gradient_coefficients`."""
  dx, sum_dx = dispatch.call(
    'norm_gradient',
    backend,
    x,
    bias,
    g,
    *(per_image(array, x.shape[0]) for array in coefficients),
    activation=activation,
  )
  return dx, sum_dx.sum(0)


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)
