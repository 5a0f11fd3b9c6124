"""What networks share whose layers over tokens fit one number of tokens only.

patches -> dense
depth times: a block
head: norm -> mean over the tokens -> dense

ResMLP and MLP-Mixer are such networks. Rows of a kernel over tokens belong to
places in the image, so images of another size need another network.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax.errors import UserError
from convmixer_jax.models.fields import Field
from convmixer_jax.models.layers import (
  Dense,
  GatherFn,
  create_block,
  drop_path,
  to_patches,
)

FIELDS = {
  'width': Field(64, 'channels of a token', minimum=1),
  'depth': Field(4, 'number of blocks', minimum=1),
  'patch_size': Field(2, 'side of a patch, in pixels', minimum=1),
  'mlp_ratio': Field(4, "the MLP's hidden channels for each of a token's", 1),
  'drop_path': Field(
    0.0,
    'probability of dropping a branch, the same in all blocks',
    minimum=0,
    below=1,
    role='training',
  ),
  'scan': Field(False, 'compile one block and loop over it', role='compute'),
  'remat': Field(False, 'recompute activations to save memory', role='compute'),
}


class Layers(NamedTuple):
  """What is particular to a network.

  Attributes:
    block: a module `block(grid=..., drops=..., dtype=..., **fields)` that maps
      tokens `[B, N, C]` and the rate of drop path to tokens and None. It has a
      module `token_mixer`, whose first kernel has an axis of N.
    fields: of the block.
    patch_inits: of kernel and bias of the patches.
    norm: creates the last normalisation from a dtype and a name.
    head_init: of the kernel of the head.
  """

  block: type[nn.Module]
  fields: Mapping[str, Any]
  patch_inits: tuple[nn.initializers.Initializer, nn.initializers.Initializer]
  norm: Callable[..., nn.Module]
  head_init: nn.initializers.Initializer


class FixedTokens(nn.Module):
  """A network without its blocks, which a subclass brings.

  The blocks' parameters are stacked along a leading axis `[depth, ...]`,
  whether they run as a loop or unrolled, so a checkpoint serves both. With
  `mutable=['intermediates']`, `apply` also returns the blocks' outputs,
  `['blocks']['output'][0]`: `[depth, B, H / p, W / p, width]`.

  Attributes:
    width: channels of a token.
    depth: number of blocks.
    patch_size: side of a patch p, in pixels.
    mlp_ratio: hidden channels of the MLP in each token, in widths.
    num_classes: outputs of the head.
    dtype: compute dtype; parameters are float32.
    drop_path: probability, in training, of dropping a branch; the same in all
      blocks, as in the authors' code. Draws from `dropout`.
    scan: compile one block and loop over it, instead of `depth` copies.
    remat: recompute the blocks' insides in the backward pass, for memory.
    gather: what the parameters of each block go through before use, or None.

  Raises:
    UserError: a field is out of range (on construction); patches do not divide
      an image, or it has another number of them than the parameters are for
      (on call).
  """

  width: int
  depth: int
  patch_size: int
  mlp_ratio: int = 4
  num_classes: int = 1000
  dtype: jnp.dtype = jnp.float32
  drop_path: float = 0.0
  scan: bool = False
  remat: bool = False
  gather: GatherFn | None = None

  def layers(self, channels: int) -> Layers:
    """Returns what is particular to a network, for images of `channels`."""
    raise NotImplementedError

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Classifies images.

    Args:
      images: `[B, H, W, C]`, normalised; `patch_size` divides both sides, and
        they are those of initialisation.
      train: whether branches are dropped.

    Returns:
      Logits `[B, num_classes]`, float32. With `mutable='intermediates'` also
      what the head sees, `['intermediates']['features'][0]`: `[B, width]`.
    """
    layers = self.layers(images.shape[-1])
    height, width = images.shape[1:3]
    p = self.patch_size
    if height % p or width % p or not height or not width:
      raise UserError(
        f'config.model.patch_size = {p} does not divide the image ({height} x '
        f'{width}); choose a size that is a multiple of {p}'
      )
    grid = (height // p, width // p)
    self._check_tokens(grid)
    x = Dense(
      self.width, *layers.patch_inits, self.dtype, name='patch_embedding'
    )(to_patches(images, p))
    x = x.reshape(x.shape[0], -1, self.width)

    drops = train and self.drop_path > 0
    policy = jax.checkpoint_policies.nothing_saveable if self.remat else None
    block = create_block(
      layers.block, gather=self.gather, policy=policy, scan=self.scan
    )
    blocks = nn.scan(
      block,
      variable_axes={'params': 0, 'intermediates': 0},
      split_rngs={'params': True, 'dropout': True},
      length=self.depth,
      unroll=1 if self.scan else self.depth,
    )
    rates = np.full(self.depth, self.drop_path, np.float32)
    x, _ = blocks(
      **layers.fields, grid=grid, drops=drops, dtype=self.dtype, name='blocks'
    )(x, jnp.asarray(rates))

    x = layers.norm(jnp.float32, name='norm')(x)
    features = jnp.mean(x, axis=1)
    self.sow('intermediates', 'features', features)
    return Dense(self.num_classes, layers.head_init, name='head')(features)

  def _check_tokens(self, grid):
    """Raises UserError if the parameters are for another number of tokens."""
    if self.has_variable('params', 'blocks'):
      tokens = _count_tokens(self.get_variable('params', 'blocks'))
      if tokens != grid[0] * grid[1]:
        raise _wrong_tokens(tokens, grid[0] * grid[1])


def require_same_tokens(
  params: Mapping[str, Any], like: Mapping[str, Any]
) -> Mapping[str, Any]:
  """Returns parameters as they are; see `Architecture.resize`.

  Raises:
    UserError: those of `like` are for another number of tokens.
  """
  have, need = (_count_tokens(tree['blocks']) for tree in (params, like))
  if have != need:
    raise _wrong_tokens(have, need)
  return params


def _count_tokens(blocks):
  kernels = [
    leaf for leaf in jax.tree.leaves(blocks['token_mixer']) if leaf.ndim == 3
  ]
  return kernels[-1].shape[-2]  # of the first layer: contract sorts before it


def _wrong_tokens(have, need):
  return UserError(
    f'the network is for images of {have} patches, and these have {need}; its '
    'layers over patches cannot be resampled: choose the image size that it '
    'was trained at, or train a new one'
  )


def add_branch(
  x: jax.Array, branch: jax.Array, rate: jax.Array, block: nn.Module
) -> jax.Array:
  """Returns `x + branch`, dropped in some images if `block.drops`."""
  if block.drops:
    branch = drop_path(branch, rate, block.make_rng('dropout'))
  return x + branch


def over_tokens(layer: nn.Module, x: jax.Array) -> jax.Array:
  """Applies a layer to the axis N of `[B, N, C]` instead of C."""
  return layer(x.swapaxes(1, 2)).swapaxes(1, 2)


def image_size(fields: Mapping[str, Any], tokens: int) -> int:
  """Returns the side of the square images that have a number of tokens."""
  return max(round(tokens**0.5), 1) * fields['patch_size']
