"""LayerNorm by the C++ kernels in csrc/layer_norm.h, in float32.

The functions have the interface that every backend's have
(`xla/layer_norm.py`), for tokens `[B, N, C]`. They have to be available
(`library.unavailable`). Tokens are independent, so that sharded images are not
moved.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from convmixer_jax.kernels.cpu import library

# Blocks of tokens whose gradients of scale and offset are summed first: how
# many there are at most, as one thread adds them, and tokens of the smallest.
_MOST_BLOCKS = 64
_BLOCK_TOKENS = 16


def forward(
  x: jax.Array, scale: jax.Array, offset: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the normalised x, and mean and inverse deviation, `[B, N]`."""
  return _forward(x, scale, offset, epsilon)


def gradient(
  x: jax.Array,
  mean: jax.Array,
  inverse: jax.Array,
  scale: jax.Array,
  g: jax.Array,
  epsilon: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the gradients of x, scale and offset, given that of the result."""
  del epsilon  # it is in `inverse`
  return _gradient(x, mean, inverse, scale, g)


def _float32(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def _forward_here(x, scale, offset, epsilon):
  statistic = _float32(*x.shape[:2])
  results = jax.ffi.ffi_call(
    library.target('layer_norm'), (_float32(*x.shape), statistic, statistic)
  )(x, scale, offset, epsilon=np.float32(epsilon))
  return tuple(results)


def _gradient_here(x, mean, inverse, scale, g):
  batch, tokens, channels = x.shape
  blocks = _MOST_BLOCKS
  if isinstance(batch, int):  # and not a symbol, in an exported program
    blocks = min(max(-(-batch * tokens // _BLOCK_TOKENS), 1), blocks)
  *results, _ = jax.ffi.ffi_call(
    library.target('layer_norm_gradient'),
    (
      _float32(*x.shape),
      _float32(channels),
      _float32(channels),
      _float32(blocks, 2, channels),  # only while it runs
    ),
  )(x, mean, inverse, scale, g)
  return tuple(results)


def _shardings(mesh, batch):
  """Returns those of tokens, of statistics and of channels."""
  specs = P(batch, None, None), P(batch, None), P(None)
  return tuple(NamedSharding(mesh, spec) for spec in specs)


def _partition_forward(epsilon, mesh, arguments, result):
  tokens, statistic, channels = _shardings(mesh, arguments[0].sharding.spec[0])

  def run(*operands):
    return _forward_here(*operands, epsilon)

  return (
    *(mesh, run, (tokens, statistic, statistic)),
    (tokens, channels, channels),
  )


def _partition_gradient(mesh, arguments, result):
  batch = arguments[0].sharding.spec[0]
  tokens, statistic, channels = _shardings(mesh, batch)

  def run(*operands):
    dx, *sums = _gradient_here(*operands)
    return dx, *(sums if batch is None else jax.lax.psum(sums, batch))

  return (
    *(mesh, run, (tokens, channels, channels)),
    (tokens, statistic, statistic, channels, tokens),
  )


_forward = custom_partitioning(_forward_here, static_argnums=(3,))
_forward.def_partition(
  _partition_forward,
  sharding_rule='b n c, c, c -> b n c, b n, b n',
  need_replication_factors=('n', 'c'),
)
_gradient = custom_partitioning(_gradient_here)
_gradient.def_partition(
  _partition_gradient,
  sharding_rule='b n c, b n, b n, c, b n c -> b n c, c, c',
  need_replication_factors=('n', 'c'),
)
