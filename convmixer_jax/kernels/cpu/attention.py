"""Softmax attention by the C++ kernels in csrc/attention.h, in float32.

The functions have the interface that every backend's have (`xla/attention.py`).
They have to be available (`library.unavailable`). Images are independent, so
that sharded ones are not moved.
"""

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from convmixer_jax.kernels.cpu import library


def attention(qkv: jax.Array) -> jax.Array:
  """Computes the attention of qkv `[B, N, 3, heads, D]`."""
  return _attention(qkv)


def forward(qkv: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns it, and the probabilities."""
  return _forward(qkv)


def gradient(
  qkv: jax.Array, p: jax.Array, y: jax.Array, g: jax.Array
) -> jax.Array:
  """Returns the gradient of qkv, given that of y."""
  return _gradient(qkv, p, y, g)


def _like_y(qkv):
  batch, tokens, _, heads, channels = qkv.shape
  return jax.ShapeDtypeStruct((batch, tokens, heads, channels), jnp.float32)


def _probabilities(qkv):
  batch, tokens, _, heads, _ = qkv.shape
  return jax.ShapeDtypeStruct((batch, heads, tokens, tokens), jnp.float32)


def _attention_here(qkv):
  return jax.ffi.ffi_call(library.target('attention'), _like_y(qkv))(qkv)


def _forward_here(qkv):
  results = _like_y(qkv), _probabilities(qkv)
  return tuple(
    jax.ffi.ffi_call(library.target('attention_forward'), results)(qkv)
  )


def _gradient_here(qkv, p, y, g):
  return jax.ffi.ffi_call(
    library.target('attention_gradient'),
    jax.ShapeDtypeStruct(qkv.shape, jnp.float32),
  )(qkv, p, y, g)


def _by_image(function, rule):
  """Wraps a function of arrays `[B, ...]`, for any sharding of the images."""

  def partition(mesh, arguments, result):
    batch = arguments[0].sharding.spec[0]

    def sharding(array):
      return NamedSharding(mesh, P(batch, *[None] * (len(array.shape) - 1)))

    operands = tuple(map(sharding, arguments))
    return mesh, function, jax.tree.map(sharding, result), operands

  wrapped = custom_partitioning(function)
  wrapped.def_partition(
    partition,
    sharding_rule=rule,
    need_replication_factors=tuple(f for f in 'nshdm' if f in rule.split()),
  )
  return wrapped


_QKV, _Y, _P = 'b n s h d', 'b n h d', 'b h n m'
_attention = _by_image(_attention_here, f'{_QKV} -> {_Y}')
_forward = _by_image(_forward_here, f'{_QKV} -> {_Y}, {_P}')
_gradient = _by_image(_gradient_here, f'{_QKV}, {_P}, {_Y}, {_Y} -> {_QKV}')
