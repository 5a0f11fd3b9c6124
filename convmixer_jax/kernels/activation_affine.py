"""BatchNorm with running statistics, fused as in `norm.py`."""

import functools

import jax
import jax.numpy as jnp

from convmixer_jax.kernels import dispatch, norm


def activation_affine(
  x: jax.Array,
  bias: jax.Array | None,
  factor: jax.Array,
  shift: jax.Array,
  residual: jax.Array | None = None,
  *,
  activation: str,
  backend: str | None = None,
) -> jax.Array:
  """Computes `activation(x + bias) * factor + shift (+ residual)`.

  That is BatchNorm with running statistics. Arguments, result and errors are as
  in `norm.activation_batch_norm`; factor and shift are `[C]`.
  """
  bias = jnp.zeros_like(factor) if bias is None else bias
  return _affine(x, bias, factor, shift, residual, activation, backend)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _affine(x, bias, factor, shift, residual, activation, backend):
  batch = x.shape[0]
  factor, shift = (
    jnp.broadcast_to(array, (batch, *array.shape)) for array in (factor, shift)
  )
  return dispatch.call(
    'norm_affine',
    backend,
    x,
    bias,
    factor,
    shift,
    residual,
    activation=activation,
  )


def _affine_forward(*arguments):
  x, bias, factor, _, residual = arguments[:5]
  return _affine(*arguments), (x, bias, factor, residual is not None)


def _affine_backward(activation, backend, saved, g):
  x, bias, factor, has_residual = saved
  sums = norm.image_sums(backend, x, bias, g, activation).sum(0)
  rows = jnp.broadcast_to(factor, (x.shape[0], *factor.shape))
  zeros = jnp.zeros_like(rows)
  dx, sum_dx = dispatch.call(
    'norm_gradient',
    backend,
    x,
    bias,
    g,
    rows,
    zeros,
    zeros,
    activation=activation,
  )
  return dx, sum_dx.sum(0), sums[1], sums[0], g if has_residual else None


_affine.defvjp(_affine_forward, _affine_backward)
