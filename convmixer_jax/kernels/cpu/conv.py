"""The gradient of a convolution's kernel by csrc/linear_gradient.h, in float32.

The function has to be available (`library.unavailable`). Sharded images are not
moved.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from convmixer_jax.kernels.cpu import library


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


def _kernel_gradient_here(x, dy, size, stride, padding):
  return jax.ffi.ffi_call(
    library.target('conv_gradient'),
    jax.ShapeDtypeStruct((size, size, x.shape[-1], dy.shape[-1]), jnp.float32),
  )(x, dy, stride=np.int64(stride), padding=np.int64(padding))


def _partition(size, stride, padding, mesh, arguments, result):
  batch = arguments[0].sharding.spec[0]
  images = NamedSharding(mesh, P(batch, None, None, None))
  kernel = NamedSharding(mesh, P(None, None, None, None))

  def run(x, dy):
    sums = _kernel_gradient_here(x, dy, size, stride, padding)
    return sums if batch is None else jax.lax.psum(sums, batch)

  return mesh, run, kernel, (images, images)


_kernel_gradient = custom_partitioning(
  _kernel_gradient_here, static_argnums=(2, 3, 4)
)
_kernel_gradient.def_partition(
  _partition,
  sharding_rule='b y x i, b h w o -> k l i o',
  reduction_factors=('b',),
  need_replication_factors=('y', 'x', 'i', 'h', 'w', 'o', 'k', 'l'),
)
