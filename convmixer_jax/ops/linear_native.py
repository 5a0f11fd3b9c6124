"""The pointwise product by the C++ kernels in csrc/linear.h: for CPUs."""

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from convmixer_jax.ops import library

# The most floats that a vector of any CPU holds.
_LANES = 16


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Computes `x @ kernel` of x `[B, H, W, I]` and kernel `[I, O]`, float32.

  Raises:
    RuntimeError: the kernels cannot be compiled.
  """
  library.load('linear')
  return _product(x, kernel)


def transposed_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Computes `x @ kernel.T` of x `[B, H, W, I]` and kernel `[O, I]`, float32.

  Raises:
    RuntimeError: the kernels cannot be compiled.
  """
  library.load('linear')
  return _transposed_product(x, kernel)


def _partitioned(transposed, rule):
  """Wraps the kernel so that each device multiplies its own images."""

  def here(x, kernel):
    columns = kernel.shape[0 if transposed else 1]
    room = x.shape[-1] * -(-columns // _LANES) * _LANES
    y, _ = jax.ffi.ffi_call(
      library.target('linear'),
      (
        jax.ShapeDtypeStruct((*x.shape[:-1], columns), jnp.float32),
        jax.ShapeDtypeStruct((room,), jnp.float32),
      ),
    )(x, kernel, transposed=transposed)
    return y

  def partition(mesh, arguments, result):
    batch = arguments[0].sharding.spec[0]
    images = NamedSharding(mesh, P(batch, None, None, None))
    return mesh, here, images, (images, NamedSharding(mesh, P(None, None)))

  wrapped = custom_partitioning(here)
  wrapped.def_partition(
    partition,
    sharding_rule=rule,
    need_replication_factors=('h', 'w', 'i', 'o'),
  )
  return wrapped


_product = _partitioned(False, 'b h w i, i o -> b h w o')
_transposed_product = _partitioned(True, 'b h w i, o i -> b h w o')
