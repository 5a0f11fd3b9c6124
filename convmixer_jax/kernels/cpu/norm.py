"""Bias, activation, BatchNorm and residual by the C++ kernels in csrc/norm.h.

The functions have the interface that every backend's have (`xla/norm.py`). They
have to be available (`library.unavailable`). Images and channels are
independent, so that sharded ones are not moved.
"""

import jax
import numpy as np

from convmixer_jax.kernels.cpu import library
from convmixer_jax.kernels.cpu.channelwise import wrap


def sums(
  x: jax.Array, bias: jax.Array, g: jax.Array | None, activation: str | None
) -> jax.Array:
  """Sums (a, a^2) over each image, or if `g` is given, (g, g a)."""
  if g is None:
    return _moments(x, bias, _attributes(activation))
  return _products(x, bias, g, _attributes(activation))


def affine(*arrays: jax.Array | None, activation: str) -> jax.Array:
  """Computes `a * factor + shift (+ residual)`."""
  *operands, residual = arrays
  if residual is None:
    return _affine(*operands, _attributes(activation))
  return _affine_residual(*arrays, _attributes(activation))


def gradient(
  *arrays: jax.Array, activation: str
) -> tuple[jax.Array, jax.Array]:
  """Computes `dx = activation'(x + bias) * (p g + q a + r)` and its sums."""
  return _gradient(*arrays, _attributes(activation))


def _attributes(activation):
  number = np.int64(library.ACTIVATION_NUMBERS[activation])
  return (('activation', number),)


_moments = wrap('moments', ['images', 'channels'], ['pairs'])
_products = wrap('products', ['images', 'channels', 'images'], ['pairs'])
_affine = wrap('affine', ['images', 'channels', 'rows', 'rows'], ['images'])
_affine_residual = wrap(
  'affine_residual',
  ['images', 'channels', 'rows', 'rows', 'images'],
  ['images'],
)
_gradient = wrap(
  'gradient',
  ['images', 'channels', 'images', 'rows', 'rows', 'rows'],
  ['images', 'rows'],
)
