"""The pointwise product by the C++ kernels of csrc/linear.cc, in float32.

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
  return _product(x, kernel, False)


def transposed_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Computes `x @ kernel.T` of x `[B, H, W, O]` and kernel `[I, O]`."""
  return _product(x, kernel, True)


def kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
  """Computes the gradient `[I, O]` of `product`'s kernel.

  Args:
    x: `[B, H, W, I]`.
    dy: `[B, H, W, O]`, the gradient of the product.
  """
  return _kernel_gradient(x, dy)


def pack(kernel: jax.Array) -> jax.Array:
  """Returns the kernel `[I, O]` in the order of its use, as a `[P]`."""
  return _pack(kernel)


def multiply(x: jax.Array, packed: jax.Array, columns: int) -> jax.Array:
  """Computes `x @ kernel` of x `[B, H, W, I]` and the result of `pack`.

  Args:
    x: the images.
    packed: the kernel.
    columns: O, of the kernel.
  """
  return _multiply(x, packed, columns)


def _pack_here(kernel):
  return jax.ffi.ffi_call(library.target('pack'), packed_shape(*kernel.shape))(
    kernel
  )


def _product_here(x, kernel, transposed):
  inner, columns = kernel.shape[::-1] if transposed else kernel.shape
  y, _ = jax.ffi.ffi_call(
    library.target('product'),
    (
      jax.ShapeDtypeStruct((*x.shape[:-1], columns), jnp.float32),
      packed_shape(inner, columns),  # only while it runs
    ),
  )(x, kernel, transposed=transposed)
  return y


def _multiply_here(x, packed, columns):
  return jax.ffi.ffi_call(
    library.target('multiply'),
    jax.ShapeDtypeStruct((*x.shape[:-1], columns), jnp.float32),
  )(x, packed)


def packed_shape(inner: int, columns: int) -> jax.ShapeDtypeStruct:
  """Returns the shape of a packed kernel `[inner, columns]`."""
  room = inner * -(-columns // _LANES) * _LANES
  return jax.ShapeDtypeStruct((room,), jnp.float32)


def _kernel_gradient_here(x, dy):
  return jax.ffi.ffi_call(
    library.target('linear_gradient'),
    jax.ShapeDtypeStruct((x.shape[-1], dy.shape[-1]), jnp.float32),
  )(x, dy)


def _partition_pack(mesh, arguments, result):
  kernel, packed = (NamedSharding(mesh, P(*[None] * n)) for n in (2, 1))
  return mesh, _pack_here, packed, (kernel,)


def _partition_product(transposed, mesh, arguments, result):
  batch = arguments[0].sharding.spec[0]
  images = NamedSharding(mesh, P(batch, None, None, None))
  kernel = NamedSharding(mesh, P(None, None))

  def run(x, kernel):
    return _product_here(x, kernel, transposed)

  return mesh, run, images, (images, kernel)


def _partition_multiply(columns, mesh, arguments, result):
  batch = arguments[0].sharding.spec[0]
  images = NamedSharding(mesh, P(batch, None, None, None))
  packed = NamedSharding(mesh, P(None))

  def run(x, packed):
    return _multiply_here(x, packed, columns)

  return mesh, run, images, (images, packed)


def _partition_kernel_gradient(mesh, arguments, result):
  batch = arguments[0].sharding.spec[0]
  images = NamedSharding(mesh, P(batch, None, None, None))
  gradient = NamedSharding(mesh, P(None, None))

  def run(x, dy):
    sums = _kernel_gradient_here(x, dy)
    return sums if batch is None else jax.lax.psum(sums, batch)

  return mesh, run, gradient, (images, images)


_pack = custom_partitioning(_pack_here)
_pack.def_partition(
  _partition_pack,
  sharding_rule='i o -> p',
  need_replication_factors=('i', 'o', 'p'),
)
_product = custom_partitioning(_product_here, static_argnums=(2,))
_product.def_partition(
  _partition_product,
  # Either axis of the kernel may be the one that is summed over.
  sharding_rule='b h w c, i j -> b h w k',
  need_replication_factors=('h', 'w', 'c', 'i', 'j', 'k'),
)
_multiply = custom_partitioning(_multiply_here, static_argnums=(2,))
_multiply.def_partition(
  _partition_multiply,
  sharding_rule='b h w i, p -> b h w o',
  need_replication_factors=('h', 'w', 'i', 'p', 'o'),
)
_kernel_gradient = custom_partitioning(_kernel_gradient_here)
_kernel_gradient.def_partition(
  _partition_kernel_gradient,
  sharding_rule='b h w i, b h w o -> i o',
  reduction_factors=('b',),
  need_replication_factors=('h', 'w', 'i', 'o'),
)
