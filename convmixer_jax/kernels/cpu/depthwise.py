"""Depthwise convolution by the C++ kernels in csrc/: for CPUs.

Both functions have the interface every implementation has (`depthwise.py`).

XLA cannot look into a foreign call. Left to itself it would gather a sharded
batch for it; so each call says how it is partitioned: images and channels are
independent, and the sums over images are added over the devices, in float32.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from convmixer_jax.kernels.cpu import library

# The channels a thread works on together: kBlock in rows.h.
_BLOCK = 64
# As many tasks keep the threads of a large CPU busy; as many groups still have
# few sums beside their images.
_MOST_TASKS, _MOST_GROUPS = 64, 16


def correlate(
  x: jax.Array, kernel: jax.Array, bias: jax.Array | None, low: int
) -> jax.Array:
  """Correlates x `[B, H, W, C]` with kernel `[k, k, C]`, `low` zeros before.

  kernel and bias have x's dtype, as has the result; sums are in float32.

  Raises:
    RuntimeError: the kernels cannot be compiled.
  """
  library.load('depthwise', kernel.shape[0])
  if bias is None:
    bias = jnp.zeros(x.shape[-1:], x.dtype)
  return _correlate(x, kernel, bias, low)


def correlate_kernel(
  x: jax.Array, dy: jax.Array, size: int, low: int
) -> tuple[jax.Array, jax.Array]:
  """Gradients `[k, k, C]`, `[C]` of `correlate`'s kernel and bias given dy.

  In float32, the same bits for any number of threads.

  Raises:
    RuntimeError: the kernels cannot be compiled.
  """
  library.load('depthwise', size)
  sums = _correlate_kernel(x, dy, size, low)
  return sums[:-1].reshape(size, size, -1), sums[-1]


def mix(
  p: jax.Array,
  p_bias: jax.Array,
  p_factor: jax.Array,
  p_shift: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  factor: jax.Array,
  activation: str,
  low: int,
) -> jax.Array:
  """All that lies between two products, in one pass; see `kernels.mix`.

  kernel and bias have p's dtype.

  Raises:
    RuntimeError: the kernels cannot be compiled.
  """
  library.load('depthwise', kernel.shape[0])
  return _mix(
    p, p_bias, p_factor, p_shift, kernel, bias, factor, activation, low
  )


def _correlate_here(x, kernel, bias, low):
  return jax.ffi.ffi_call(
    library.target('correlate', kernel.shape[0]),
    jax.ShapeDtypeStruct(x.shape, x.dtype),
  )(x, kernel, bias, low=np.int64(low))


def _mix_here(p, p_bias, p_factor, p_shift, kernel, bias, factor, *how):
  activation, low = how
  return jax.ffi.ffi_call(
    library.target('mix', kernel.shape[0]),
    jax.ShapeDtypeStruct(p.shape, p.dtype),
  )(
    *(p, p_bias, p_factor, p_shift, kernel, bias, factor),
    low=np.int64(low),
    activation=np.int64(library.ACTIVATION_NUMBERS[activation]),
  )


def _correlate_kernel_here(x, dy, size, low):
  batch, channels = x.shape[0], x.shape[3]
  blocks = -(-channels // _BLOCK)
  groups = max(1, min(batch, _MOST_GROUPS, _MOST_TASKS // blocks))
  sums = jax.ffi.ffi_call(
    library.target('correlate_kernel', size),
    jax.ShapeDtypeStruct((groups, size**2 + 1, channels), jnp.float32),
  )(x, dy, low=np.int64(low))
  # XLA:CPU fuses the additions; its reduction takes longer than the kernel.
  return functools.reduce(jnp.add, sums)


def _partition_correlate(low, mesh, arguments, result):
  batch, channels = _batch_and_channels(arguments[0])
  images = NamedSharding(mesh, P(batch, None, None, channels))
  kernel = NamedSharding(mesh, P(None, None, channels))
  bias = NamedSharding(mesh, P(channels))
  run = functools.partial(_correlate_here, low=low)
  return mesh, run, images, (images, kernel, bias)


def _partition_mix(activation, low, mesh, arguments, result):
  batch, channels = _batch_and_channels(arguments[0])
  images = NamedSharding(mesh, P(batch, None, None, channels))
  kernel = NamedSharding(mesh, P(None, None, channels))
  vector = NamedSharding(mesh, P(channels))

  def run(*arrays):
    return _mix_here(*arrays, activation, low)

  operands = (images, vector, vector, vector, kernel, vector, vector)
  return mesh, run, images, operands


def _partition_correlate_kernel(size, low, mesh, arguments, result):
  batch, channels = _batch_and_channels(arguments[0])

  def run(x, dy):
    sums = _correlate_kernel_here(x, dy, size, low)
    return sums if batch is None else jax.lax.psum(sums, batch)

  images = NamedSharding(mesh, P(batch, None, None, channels))
  sums = NamedSharding(mesh, P(None, channels))
  return mesh, run, sums, (images, images)


def _batch_and_channels(x):
  """Mesh axes of a `[B, H, W, C]`; rows and columns a device needs whole."""
  batch, _, _, channels = x.sharding.spec
  return batch, channels


_correlate = custom_partitioning(_correlate_here, static_argnums=(3,))
_correlate.def_partition(
  _partition_correlate,
  sharding_rule='b h w c, i j c, c -> b h w c',
  need_replication_factors=('h', 'w', 'i', 'j'),
)
_mix = custom_partitioning(_mix_here, static_argnums=(7, 8))
_mix.def_partition(
  _partition_mix,
  sharding_rule='b h w c, c, c, c, i j c, c, c -> b h w c',
  need_replication_factors=('h', 'w', 'i', 'j'),
)
_correlate_kernel = custom_partitioning(
  _correlate_kernel_here, static_argnums=(2, 3)
)
_correlate_kernel.def_partition(
  _partition_correlate_kernel,
  sharding_rule='b h w c, b h w c -> s c',
  reduction_factors=('b',),
  need_replication_factors=('h', 'w', 's'),
)
