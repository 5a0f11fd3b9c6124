"""Convolutions by the C++ kernels of csrc/linear.cc, in float32.

They are products of windows, which are not written to memory. The functions
have to be available (`library.unavailable`). Sharded images are not moved.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from convmixer_jax.kernels.cpu import library
from convmixer_jax.kernels.cpu.linear import packed_shape
from convmixer_jax.kernels.xla import conv as xla_conv


def convolve(
  x: jax.Array, kernel: jax.Array, *, stride: int, padding: int
) -> jax.Array:
  """Computes a convolution of x `[B, H, W, I]` with kernel `[k, k, I, O]`.

  Args:
    x: images.
    kernel: in float32.
    stride: of both axes.
    padding: zeros on each of the four sides.
  """
  return _convolve(x, kernel, stride, padding)


def transposed(
  dy: jax.Array, kernel: jax.Array, *, shape: tuple[int, ...], **how: int
) -> jax.Array:
  """Computes the gradient of x of `convolve`.

  Args:
    dy: the gradient of the convolution, `[B, h, w, O]`.
    kernel: see `convolve`.
    shape: of x.
    **how: stride and padding of `convolve`. XLA computes those with a stride.
  """
  padding = kernel.shape[0] - 1 - how['padding']
  if how['stride'] != 1 or padding < 0:
    return xla_conv.transposed(dy, kernel, shape=shape, **how)
  rotated = kernel[::-1, ::-1].swapaxes(2, 3)
  return _convolve(dy, rotated, 1, padding)


def kernel_gradient(
  x: jax.Array, dy: jax.Array, *, size: int, stride: int, padding: int
) -> jax.Array:
  """Computes the gradient `[k, k, I, O]` of a convolution's kernel.

  Args:
    x: `[B, H, W, I]`.
    dy: `[B, h, w, O]`, the gradient of the convolution.
    size: k.
    stride: of both axes.
    padding: zeros on each of the four sides of x.
  """
  return _kernel_gradient(x, dy, size, stride, padding)


def _convolve_here(x, kernel, stride, padding):
  size, columns = kernel.shape[0], kernel.shape[-1]
  sides = ((side + 2 * padding - size) // stride + 1 for side in x.shape[1:3])
  y, _ = jax.ffi.ffi_call(
    library.target('conv'),
    (
      jax.ShapeDtypeStruct((x.shape[0], *sides, columns), jnp.float32),
      packed_shape(kernel.size // columns, columns),  # only while it runs
    ),
  )(x, kernel, stride=np.int64(stride), padding=np.int64(padding))
  return y


def _kernel_gradient_here(x, dy, size, stride, padding):
  return jax.ffi.ffi_call(
    library.target('conv_gradient'),
    jax.ShapeDtypeStruct((size, size, x.shape[-1], dy.shape[-1]), jnp.float32),
  )(x, dy, stride=np.int64(stride), padding=np.int64(padding))


def _partition_convolve(stride, padding, mesh, arguments, result):
  batch = arguments[0].sharding.spec[0]
  images = NamedSharding(mesh, P(batch, None, None, None))
  kernel = NamedSharding(mesh, P(None, None, None, None))

  def run(x, kernel):
    return _convolve_here(x, kernel, stride, padding)

  return mesh, run, images, (images, kernel)


def _partition_kernel_gradient(size, stride, padding, mesh, arguments, result):
  batch = arguments[0].sharding.spec[0]
  images = NamedSharding(mesh, P(batch, None, None, None))
  kernel = NamedSharding(mesh, P(None, None, None, None))

  def run(x, dy):
    sums = _kernel_gradient_here(x, dy, size, stride, padding)
    return sums if batch is None else jax.lax.psum(sums, batch)

  return mesh, run, kernel, (images, images)


_convolve = custom_partitioning(_convolve_here, static_argnums=(2, 3))
_convolve.def_partition(
  _partition_convolve,
  sharding_rule='b y x i, k l j o -> b h w c',
  need_replication_factors=('y', 'x', 'i', 'k', 'l', 'j', 'o', 'h', 'w', 'c'),
)
_kernel_gradient = custom_partitioning(
  _kernel_gradient_here, static_argnums=(2, 3, 4)
)
_kernel_gradient.def_partition(
  _partition_kernel_gradient,
  sharding_rule='b y x i, b h w o -> k l i o',
  reduction_factors=('b',),
  need_replication_factors=('y', 'x', 'i', 'h', 'w', 'o', 'k', 'l'),
)
