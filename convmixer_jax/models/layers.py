"""What several networks share: initialisers, patches, dense layers, norms."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import Primitive

from convmixer_jax import kernels

EPSILON = 1e-6  # of LayerNorm: timm's, not PyTorch's default

# Maps the parameters of a block to those that it computes with, of the same
# values: where devices hold parts of them, to whole ones on each device.
GatherFn = Callable[[Any], Any]


def uniform_init(fan_in: int) -> nn.initializers.Initializer:
  """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's, for weights and biases."""
  bound = fan_in**-0.5

  def init(rng, shape, dtype=jnp.float32):
    return jax.random.uniform(rng, shape, dtype, -bound, bound)

  return init


def to_patches(images: jax.Array, p: int) -> jax.Array:
  """Maps `[B, H, W, C]` to `[B, H // p, W // p, p * p * C]`."""
  batch, height, width, channels = images.shape
  rows, columns = height // p, width // p
  images = images[:, : rows * p, : columns * p]
  patches = images.reshape(batch, rows, p, columns, p, channels)
  patches = patches.transpose(0, 1, 3, 2, 4, 5)
  return patches.reshape(batch, rows, columns, p * p * channels)


class Dense(nn.Module):
  """A dense layer over the last axis, of one matrix product.

  Attributes:
    features: outputs.
    kernel_init: of the kernel `[C, features]`.
    bias_init: of the bias `[features]`.
    dtype: of the product; its sums run in float32.
    backend: of the product; see `kernels.linear`.
  """

  features: int
  kernel_init: nn.initializers.Initializer
  bias_init: nn.initializers.Initializer = nn.initializers.zeros
  dtype: jnp.dtype = jnp.float32
  backend: str | None = 'xla'

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[..., C]` to `[..., features]`."""
    parameters = _dense_parameters(self, x.shape[-1])
    return kernels.dense(
      x.astype(self.dtype), *parameters, backend=self.backend
    )


class _DenseParameters(nn.Module):
  """The kernel and bias of a `Dense` that another operation computes."""

  features: int
  kernel_init: nn.initializers.Initializer
  bias_init: nn.initializers.Initializer = nn.initializers.zeros

  @nn.compact
  def __call__(self, inputs: int) -> tuple[jax.Array, jax.Array]:
    """Returns the kernel `[inputs, features]` and the bias `[features]`."""
    return _dense_parameters(self, inputs)


def _dense_parameters(module, inputs):
  shape = inputs, module.features
  kernel = module.param('kernel', module.kernel_init, shape)
  return kernel, module.param('bias', module.bias_init, shape[1:])


class LayerNorm(nn.Module):
  """LayerNorm as timm computes it, its statistics in float32.

  Attributes:
    dtype: of the result.
    backend: of the computation; see `kernels.layer_norm`.
  """

  dtype: jnp.dtype = jnp.float32
  backend: str | None = 'xla'

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[..., C]` to the same shape."""
    shape = x.shape[-1:]
    scale = self.param('scale', nn.initializers.ones, shape)
    bias = self.param('bias', nn.initializers.zeros, shape)
    return kernels.layer_norm(
      *(x, scale, bias),
      epsilon=EPSILON,
      dtype=self.dtype,
      backend=self.backend,
    )


class PatchTokens(nn.Module):
  """A convolution with kernel and stride `patch_size`, with bias.

  The parameters have PyTorch's default initialisation.
  """

  width: int
  patch_size: int
  dtype: jnp.dtype = jnp.float32
  backend: str | None = 'xla'

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps `[B, H, W, C]` to `[B, H // patch_size, W // patch_size, width]`."""
    init = uniform_init(self.patch_size**2 * images.shape[-1])
    patches = to_patches(images, self.patch_size)
    projection = Dense(
      *(self.width, init, init, self.dtype, self.backend), name='projection'
    )
    return projection(patches)


class Attention(nn.Module):
  """Multi-head softmax attention, with biases."""

  heads: int
  kernel_init: nn.initializers.Initializer
  dtype: jnp.dtype = jnp.float32
  backend: str | None = 'xla'  # of the attention and the dense layers

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps tokens `[B, N, C]` to the same shape."""
    batch, count, width = x.shape
    dense = functools.partial(
      Dense,
      kernel_init=self.kernel_init,
      dtype=self.dtype,
      backend=self.backend,
    )
    qkv = dense(3 * width, name='qkv')(x)
    shape = (batch, count, 3, self.heads, width // self.heads)
    y = kernels.attention(qkv.reshape(shape), backend=self.backend)
    return dense(width, name='projection')(y.reshape(x.shape))


class Mlp(nn.Module):
  """Two dense layers with an exact GELU between them."""

  hidden: int
  kernel_init: nn.initializers.Initializer
  dtype: jnp.dtype = jnp.float32
  backend: str | None = 'xla'  # of the dense layers

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[..., C]` to the same shape."""
    width, init = x.shape[-1], self.kernel_init
    expand = _DenseParameters(self.hidden, init, name='expand')(width)
    contract = _DenseParameters(width, init, name='contract')(self.hidden)
    return kernels.mlp(
      x.astype(self.dtype), *expand, *contract, backend=self.backend
    )


def expose(module: nn.Module, name: str, x: jax.Array) -> jax.Array:
  """Sows a layer's output, and adds to it the perturbation, if there is one.

  The derivative by a perturbation of 0 is that by the output: so gradients at
  a layer can be computed without cutting the network in two.

  Args:
    module: whose output it is.
    name: of the output, in the collections `intermediates` and `perturbations`.
    x: the output, `[B, h, w, C]`.

  Returns:
    What the following layers have to take; `x` itself without a perturbation.
  """
  if module.has_variable('perturbations', name):
    x = x + module.get_variable('perturbations', name)
  module.sow('intermediates', name, x)
  return x


def drop_path(x: jax.Array, rate: jax.Array, rng: jax.Array) -> jax.Array:
  """Drops the branch `x` of random images, and scales what is left.

  Args:
    x: `[B, ...]`, a branch that is to be added to a residual stream.
    rate: the probability, a scalar below 1.
    rng: a key of this step and branch.

  Returns:
    `x / (1 - rate)`, or 0 for images that are dropped.
  """
  keeps = 1 - rate
  shape = (x.shape[0],) + (1,) * (x.ndim - 1)
  kept = jax.random.bernoulli(rng, keeps, shape)
  return x * jnp.where(kept, 1 / keeps, 0.0).astype(x.dtype)


def resample(
  table: jax.Array,
  grid: tuple[int, int],
  old_grid: tuple[int, int] | None = None,
  others: int = 1,
) -> jax.Array:
  """Brings a position embedding to another grid of patches, as timm does.

  Args:
    table: `[1, T + n, C]`; the first rows, the class token's, stay.
    grid: rows and columns.
    old_grid: rows and columns of the table; a square if it has another number
      of patches, or None.
    others: T, the number of tokens that are not patches.

  Returns:
    `[1, T + rows * columns, C]`.
  """
  count, width = table.shape[1] - others, table.shape[-1]
  if old_grid is None or math.prod(old_grid) != count:
    old_grid = (round(count**0.5),) * 2
  if tuple(old_grid) == tuple(grid):
    return table
  patches = table[0, others:].reshape(*old_grid, width)
  patches = jax.image.resize(patches, (*grid, width), 'cubic', antialias=True)
  patches = patches.reshape(1, -1, width)
  return jnp.concatenate([table[:, :others], patches], axis=1)


def create_block(
  block: type[nn.Module],
  *,
  gather: GatherFn | None,
  policy: Callable[..., bool] | None = None,
  scan: bool,
) -> type[nn.Module]:
  """Returns a block for `nn.scan`, and what it keeps for the backward pass.

  Args:
    block: the module of one block.
    gather: what the parameters of a block go through before use, or None. It
      is repeated in the backward pass, for its result is not kept.
    policy: of `jax.checkpoint`: what else is kept; None for all that autodiff
      asks for.
    scan: whether the blocks are a loop, or unrolled.
  """
  if gather is not None:
    block = nn.map_variables(block, 'params', gather)
    policy = policy or _keeps_all_but_moved
  if policy is None:
    return block
  # A loop keeps the passes apart. Unrolled, XLA would find that both gather
  # the same, and keep it.
  prevents_cse = gather is not None and not scan
  return nn.remat(block, prevent_cse=prevents_cse, policy=policy)


def _keeps_all_but_moved(primitive: Primitive, *_: Any, **__: Any) -> bool:
  """Policy of `jax.checkpoint`: what a sharding constraint gave is not kept."""
  return primitive.name != 'sharding_constraint'


def divisors(number: int) -> list[int]:
  """Returns the whole numbers that divide a number."""
  return [k for k in range(1, number + 1) if number % k == 0]
