"""Depthwise convolution by the C++ kernels in csrc/.

The functions have the interface that every backend's have
(`xla/depthwise.py`). They have to be available (`library.unavailable`).

XLA knows nothing about a foreign call, and would gather a sharded batch for it.
So each call declares how it is partitioned: images and channels are
independent, and sums over images are added over the devices, in float32.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from convmixer_jax.kernels.cpu import library

# The channels that a thread processes together: kBlock in rows.h.
_BLOCK = 64
# So many tasks keep the threads of a large CPU busy, and the sums of so many
# groups are still small compared with the images.
_MOST_TASKS, _MOST_GROUPS = 64, 16


def correlate(
  x: jax.Array, kernel: jax.Array, bias: jax.Array | None, pad_before: int
) -> jax.Array:
  """Correlates x `[B, H, W, C]` with kernel `[k, k, C]`, plus bias `[C]`.

  kernel, bias and result have x's dtype; sums are in float32.
  """
  if bias is None:
    bias = jnp.zeros(x.shape[-1:], x.dtype)
  return _correlate(x, kernel, bias, pad_before)


def kernel_gradient(
  x: jax.Array, dy: jax.Array, size: int, pad_before: int
) -> tuple[jax.Array, jax.Array]:
  """Returns gradients `[k, k, C]`, `[C]` of `correlate`'s kernel and bias.

  In float32, the same bits for any number of threads.
  """
  sums = _kernel_gradient(x, dy, size, pad_before)
  return sums[:-1].reshape(size, size, -1), sums[-1]


def fused_mixer(
  *arrays: jax.Array, activation: str, pad_before: int
) -> jax.Array:
  """Computes `kernels.fused_mixer`, of its arrays, in one pass over memory.

  kernel and bias have p's dtype.
  """
  return _fused_mixer(*arrays, activation, pad_before)


def _correlate_here(x, kernel, bias, pad_before):
  return jax.ffi.ffi_call(
    library.target('correlate', kernel.shape[0]),
    jax.ShapeDtypeStruct(x.shape, x.dtype),
  )(x, kernel, bias, pad_before=np.int64(pad_before))


def _fused_mixer_here(*arguments):
  *arrays, activation, pad_before = arguments
  p, kernel = arrays[0], arrays[4]
  return jax.ffi.ffi_call(
    library.target('fused_mixer', kernel.shape[0]),
    jax.ShapeDtypeStruct(p.shape, p.dtype),
  )(
    *arrays,
    pad_before=np.int64(pad_before),
    activation=np.int64(library.ACTIVATION_NUMBERS[activation]),
  )


def _kernel_gradient_here(x, dy, size, pad_before):
  batch, channels = x.shape[0], x.shape[3]
  blocks = -(-channels // _BLOCK)
  groups = max(1, min(batch, _MOST_GROUPS, _MOST_TASKS // blocks))
  sums = jax.ffi.ffi_call(
    library.target('kernel_gradient', size),
    jax.ShapeDtypeStruct((groups, size**2 + 1, channels), jnp.float32),
  )(x, dy, pad_before=np.int64(pad_before))
  # XLA:CPU fuses these additions; its reduction takes longer than the kernel.
  return functools.reduce(jnp.add, sums)


def _partition_correlate(pad_before, mesh, arguments, result):
  batch, channels = _batch_and_channels(arguments[0])
  images = NamedSharding(mesh, P(batch, None, None, channels))
  kernel = NamedSharding(mesh, P(None, None, channels))
  bias = NamedSharding(mesh, P(channels))
  run = functools.partial(_correlate_here, pad_before=pad_before)
  return mesh, run, images, (images, kernel, bias)


def _partition_fused_mixer(activation, pad_before, mesh, arguments, result):
  batch, channels = _batch_and_channels(arguments[0])
  images = NamedSharding(mesh, P(batch, None, None, channels))
  kernel = NamedSharding(mesh, P(None, None, channels))
  vector = NamedSharding(mesh, P(channels))

  def run(*arrays):
    return _fused_mixer_here(*arrays, activation, pad_before)

  operands = (images, vector, vector, vector, kernel, vector, vector)
  return mesh, run, images, operands


def _partition_kernel_gradient(size, pad_before, mesh, arguments, result):
  batch, channels = _batch_and_channels(arguments[0])

  def run(x, dy):
    sums = _kernel_gradient_here(x, dy, size, pad_before)
    return sums if batch is None else jax.lax.psum(sums, batch)

  images = NamedSharding(mesh, P(batch, None, None, channels))
  sums = NamedSharding(mesh, P(None, channels))
  return mesh, run, sums, (images, images)


def _batch_and_channels(x):
  """Returns the mesh axes of B and C; a device needs all rows and columns."""
  batch, _, _, channels = x.sharding.spec
  return batch, channels


_correlate = custom_partitioning(_correlate_here, static_argnums=(3,))
_correlate.def_partition(
  _partition_correlate,
  sharding_rule='b h w c, i j c, c -> b h w c',
  need_replication_factors=('h', 'w', 'i', 'j'),
)
_fused_mixer = custom_partitioning(_fused_mixer_here, static_argnums=(7, 8))
_fused_mixer.def_partition(
  _partition_fused_mixer,
  sharding_rule='b h w c, c, c, c, i j c, c, c -> b h w c',
  need_replication_factors=('h', 'w', 'i', 'j'),
)
_kernel_gradient = custom_partitioning(
  _kernel_gradient_here, static_argnums=(2, 3)
)
_kernel_gradient.def_partition(
  _partition_kernel_gradient,
  sharding_rule='b h w c, b h w c -> s c',
  reduction_factors=('b',),
  need_replication_factors=('h', 'w', 's'),
)
