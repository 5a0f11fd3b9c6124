"""Depthwise convolution as XLA's own convolution: for TPU and GPU (cuDNN).

Both functions have the interface that every backend's have; it is documented
here. `size` is the side of the kernel, and `pad_before` the number of zeros
before the first row and column; size - 1 - pad_before follow the last ones.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P


def _conv(x: jax.Array, kernel: jax.Array, pad_before: int) -> jax.Array:
  size, _, channels = kernel.shape
  return lax.conv_general_dilated(
    x,
    kernel[:, :, None, :],
    window_strides=(1, 1),
    padding=[(pad_before, size - 1 - pad_before)] * 2,
    feature_group_count=channels,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def correlate(
  x: jax.Array, kernel: jax.Array, bias: jax.Array | None, pad_before: int
) -> jax.Array:
  """Correlates x `[B, H, W, C]` with kernel `[k, k, C]`, plus bias `[C]`.

  Accelerators sum in float32. cuDNN has no convolution of bfloat16 arrays with
  a float32 result, so the result is rounded to bfloat16 before the bias is
  added, and again after.
  """
  y = _conv(x, kernel, pad_before)
  if bias is not None:
    y = y.astype(jnp.float32) + bias.astype(jnp.float32)
  return y.astype(x.dtype)


def kernel_gradient(
  x: jax.Array, dy: jax.Array, size: int, pad_before: int
) -> tuple[jax.Array, jax.Array]:
  """Returns gradients `[k, k, C]`, `[C]` of `correlate`'s kernel and bias.

  In float32, over devices too. From bfloat16 arrays cuDNN only gives a bfloat16
  result: each device's sum, computed in float32, is rounded once.
  """
  float32 = functools.partial(
    _kernel_gradient_float32, size=size, pad_before=pad_before
  )
  if x.dtype == jnp.float32:
    dkernel = float32(x, dy)
  else:
    dkernel = lax.platform_dependent(
      x,
      dy,
      cuda=lambda x, dy: kernel_gradient_cudnn(x, dy, size, pad_before),
      default=float32,
    )
  return dkernel, dy.astype(jnp.float32).sum((0, 1, 2))


def _kernel_gradient_float32(x, dy, size, pad_before):
  # Casting first makes the result, and any reduction of it over devices,
  # float32. XLA:TPU fuses the casts.
  return _kernel_gradient(
    x.astype(jnp.float32), dy.astype(jnp.float32), size, pad_before
  )


def _kernel_gradient(x, dy, size, pad_before):
  kernel = jax.ShapeDtypeStruct((size, size, x.shape[-1]), x.dtype)
  transpose = jax.linear_transpose(
    lambda kernel: _conv(x, kernel, pad_before), kernel
  )
  return transpose(dy)[0]


def _kernel_gradient_cudnn(x, dy, size, pad_before):
  """As `kernel_gradient_cudnn`, on one device."""
  # For a float32 result, XLA:GPU would write float32 copies of both.
  return _kernel_gradient(x, dy, size, pad_before).astype(jnp.float32)


def _partition_kernel_gradient(size, pad_before, mesh, arguments, result):
  batch, _, _, channels = arguments[0].sharding.spec

  def run(x, dy):
    dkernel = _kernel_gradient_cudnn(x, dy, size, pad_before)
    return dkernel if batch is None else lax.psum(dkernel, batch)

  images = NamedSharding(mesh, P(batch, None, None, channels))
  kernel = NamedSharding(mesh, P(None, None, channels))
  return mesh, run, kernel, (images, images)


# `[k, k, C]` in float32, of bfloat16 x and dy without a cast. Without this
# rule, XLA would add up the bfloat16 sums of several devices in bfloat16.
kernel_gradient_cudnn = custom_partitioning(
  _kernel_gradient_cudnn, static_argnums=(2, 3)
)
kernel_gradient_cudnn.def_partition(
  _partition_kernel_gradient,
  sharding_rule='b h w c, b h w c -> i j c',
  reduction_factors=('b',),
  need_replication_factors=('h', 'w', 'i', 'j'),
)
