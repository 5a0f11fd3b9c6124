"""The pointwise product by the C++ kernels in csrc/linear.h, in float32.

The functions have to be available (`library.unavailable`). Sharded images are
not moved; each device needs the whole kernel.
"""

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from convmixer_jax.kernels.cpu import library

# The most floats in a vector of any CPU.
_LANES = 16


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Computes `x @ kernel` of x `[B, H, W, I]` and kernel `[I, O]`."""
  return multiply(x, pack(kernel), kernel.shape[1])


def transposed_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Computes `x @ kernel.T` of x `[B, H, W, O]` and kernel `[I, O]`."""
  return _multiply(x, _pack(kernel, True), kernel.shape[0])


def pack(kernel: jax.Array) -> jax.Array:
  """Returns the kernel `[I, O]` in the order of its use, as a `[P]`."""
  return _pack(kernel, False)


def multiply(x: jax.Array, packed: jax.Array, columns: int) -> jax.Array:
  """Computes `x @ kernel` of x `[B, H, W, I]` and the result of `pack`.

  Args:
    x: the images.
    packed: the kernel.
    columns: O, of the kernel.
  """
  return _multiply(x, packed, columns)


def _pack_here(kernel, transposed):
  inner, columns = kernel.T.shape if transposed else kernel.shape
  room = inner * -(-columns // _LANES) * _LANES
  return jax.ffi.ffi_call(
    library.target('pack'), jax.ShapeDtypeStruct((room,), jnp.float32)
  )(kernel, transposed=transposed)


def _multiply_here(x, packed, columns):
  return jax.ffi.ffi_call(
    library.target('multiply'),
    jax.ShapeDtypeStruct((*x.shape[:-1], columns), jnp.float32),
  )(x, packed)


def _partition_pack(transposed, mesh, arguments, result):
  kernel, packed = (NamedSharding(mesh, P(*[None] * n)) for n in (2, 1))
  return mesh, lambda a: _pack_here(a, transposed), packed, (kernel,)


def _partition_multiply(columns, mesh, arguments, result):
  batch = arguments[0].sharding.spec[0]
  images = NamedSharding(mesh, P(batch, None, None, None))
  packed = NamedSharding(mesh, P(None))

  def run(x, packed):
    return _multiply_here(x, packed, columns)

  return mesh, run, images, (images, packed)


_pack = custom_partitioning(_pack_here, static_argnums=(1,))
_pack.def_partition(
  _partition_pack,
  sharding_rule='i o -> p',
  need_replication_factors=('i', 'o', 'p'),
)
_multiply = custom_partitioning(_multiply_here, static_argnums=(2,))
_multiply.def_partition(
  _partition_multiply,
  sharding_rule='b h w i, p -> b h w o',
  need_replication_factors=('h', 'w', 'i', 'p', 'o'),
)
