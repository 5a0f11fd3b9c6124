"""BatchNorm with residual and ReLU by the C++ kernels in csrc/batch_norm.h.

The functions have the interface that every backend's have
(`xla/batch_norm.py`), for float32. They have to be available
(`library.unavailable`). Images and channels are independent, so that sharded
ones are not moved.
"""

import jax

from convmixer_jax.kernels.cpu.channelwise import wrap
from convmixer_jax.kernels.norm import (
  coefficients_from_sums,
  per_group,
  per_image,
)


def sums(x: jax.Array) -> jax.Array:
  """Sums (x, x^2) over each image."""
  return _sums(x, ())


def affine(
  x: jax.Array,
  factor: jax.Array,
  shift: jax.Array,
  residual: jax.Array | None,
  relu: bool,
) -> jax.Array:
  """Computes `x * factor + shift (+ residual)`, and ReLU of it."""
  attributes = (('relu', relu),)
  if residual is None:
    return _affine(x, factor, shift, attributes)
  return _affine_residual(x, factor, shift, residual, attributes)


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

  Both passes need g where y > 0. As the gradient of the residual it is written
  in the first, so that the second reads one array less.
  """
  if y is None:
    sums = _products(x, g, ())
  elif has_residual:
    sums, g = _products_and_mask(x, g, y, ())
    y = None
  else:
    sums = _masked_products(x, g, y, ())
  batch, height, width, _ = x.shape
  group_size = batch // mean.shape[0]
  coefficients, dscale, doffset = coefficients_from_sums(
    per_group(sums, group_size),
    *(scale, mean, inverse, group_size * height * width),
  )
  rows = [per_image(array, batch) for array in coefficients]
  if has_residual:
    return _gradient(x, g, *rows, ()), dscale, doffset, g
  if y is None:
    dx = _gradient_in_place(x, g, *rows, ())
  else:
    dx = _masked_gradient(x, g, *rows, y, ())
  return dx, dscale, doffset, None


_sums = wrap('batch_norm_sums', ['images'], ['pairs'])
_affine = wrap('batch_norm_affine', ['images', 'rows', 'rows'], ['images'])
_affine_residual = wrap(
  'batch_norm_affine', ['images', 'rows', 'rows', 'images'], ['images']
)
_products = wrap('batch_norm_products', ['images'] * 2, ['pairs'])
_masked_products = wrap('batch_norm_products', ['images'] * 3, ['pairs'])
# What is written has the place of g, if nothing else needs that: its lines were
# just read, and need not be loaded again.
_products_and_mask = wrap(
  'batch_norm_products', ['images'] * 3, ['pairs', 'images'], {1: 1}
)
_OF_GRADIENT = 'batch_norm_gradient', ['images'] * 2 + ['rows'] * 3
_gradient = wrap(*_OF_GRADIENT, ['images'])
_gradient_in_place = wrap(*_OF_GRADIENT, ['images'], {1: 0})
_masked_gradient = wrap(
  _OF_GRADIENT[0], [*_OF_GRADIENT[1], 'images'], ['images'], {1: 0}
)
