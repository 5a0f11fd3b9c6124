"""Bias, activation, BatchNorm and residual by the C++ kernels in csrc/norm.h.

The functions have the interface that every backend's have (`xla/norm.py`). They
have to be available (`library.unavailable`). Images and channels are
independent, so that sharded ones are not moved.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from convmixer_jax.kernels.cpu import library


def sums(
  x: jax.Array, bias: jax.Array, g: jax.Array | None, activation: str
) -> jax.Array:
  """Sums (a, a^2) over each image, or if `g` is given, (g, g a)."""
  if g is None:
    return _moments(x, bias, activation)
  return _products(x, bias, g, activation)


def affine(*arrays: jax.Array | None, activation: str) -> jax.Array:
  """Computes `a * factor + shift (+ residual)`."""
  *operands, residual = arrays
  if residual is None:
    return _affine(*operands, activation)
  return _affine_residual(*arrays, activation)


def gradient(
  *arrays: jax.Array, activation: str
) -> tuple[jax.Array, jax.Array]:
  """Computes `dx = activation'(x + bias) * (p g + q a + r)` and its sums."""
  return _gradient(*arrays, activation)


def _like(x):
  return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _row(x):
  return jax.ShapeDtypeStruct((x.shape[0], x.shape[-1]), jnp.float32)


def _pair(x):
  return jax.ShapeDtypeStruct((x.shape[0], 2, x.shape[-1]), jnp.float32)


def _foreign(function, operands, results, rule):
  """Wraps a function of the kernels, for any sharding of images and channels.

  Args:
    function: its name.
    operands: the layout of each: 'images', 'channels' or 'rows'.
    results: the layout of each ('images', 'rows' or 'pairs'), and a function
      that returns its shape and dtype, given x.
    rule: Shardy's, for operands and results.
  """

  def only(values):
    return values if len(values) > 1 else values[0]

  def here(*arguments):
    *arrays, activation = arguments
    shapes = tuple(shape(arrays[0]) for _, shape in results)
    found = jax.ffi.ffi_call(library.target(function), shapes)(
      *arrays, activation=np.int64(library.ACTIVATION_NUMBERS[activation])
    )
    return only(tuple(found))

  def partition(activation, mesh, arguments, result):
    batch, _, _, channels = arguments[0].sharding.spec
    specs = {
      'images': P(batch, None, None, channels),
      'channels': P(channels),
      'rows': P(batch, channels),
      'pairs': P(batch, None, channels),
    }

    def sharding(layout):
      return NamedSharding(mesh, specs[layout])

    return (
      mesh,
      lambda *arrays: here(*arrays, activation),
      only(tuple(sharding(layout) for layout, _ in results)),
      tuple(map(sharding, operands)),
    )

  wrapped = custom_partitioning(here, static_argnums=(len(operands),))
  wrapped.def_partition(
    partition, sharding_rule=rule, need_replication_factors=('h', 'w')
  )
  return wrapped


_moments = _foreign(
  'moments',
  ['images', 'channels'],
  [('pairs', _pair)],
  'b h w c, c -> b s c',
)
_products = _foreign(
  'products',
  ['images', 'channels', 'images'],
  [('pairs', _pair)],
  'b h w c, c, b h w c -> b s c',
)
_affine = _foreign(
  'affine',
  ['images', 'channels', 'rows', 'rows'],
  [('images', _like)],
  'b h w c, c, b c, b c -> b h w c',
)
_affine_residual = _foreign(
  'affine_residual',
  ['images', 'channels', 'rows', 'rows', 'images'],
  [('images', _like)],
  'b h w c, c, b c, b c, b h w c -> b h w c',
)
_gradient = _foreign(
  'gradient',
  ['images', 'channels', 'images', 'rows', 'rows', 'rows'],
  [('images', _like), ('rows', _row)],
  'b h w c, c, b h w c, b c, b c, b c -> b h w c, b c',
)
