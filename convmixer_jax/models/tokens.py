"""What networks of tokens share: fields, the grid of patches, the blocks."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax import kernels
from convmixer_jax.errors import UserError
from convmixer_jax.kernels import NORM_AND_LINEAR_BACKENDS
from convmixer_jax.models.fields import Field
from convmixer_jax.models.layers import GatherFn, create_block, drop_path


def token_fields(drop_path_text: str, **own: Field) -> dict[str, Field]:
  """Returns the fields of a network of tokens.

  Args:
    drop_path_text: what `drop_path` is, in one line.
    **own: those that are particular to the network.
  """
  return {
    'width': Field(64, 'channels of a token', minimum=1),
    'depth': Field(4, 'number of blocks', minimum=1),
    'patch_size': Field(2, 'side of a patch, in pixels', minimum=1),
    **own,
    'mlp_ratio': Field(4, "the MLP's hidden channels for each of a token's", 1),
    'drop_path': Field(
      0.0, drop_path_text, minimum=0, below=1, role='training'
    ),
    'backend': Field(
      None,
      "backend of dense layers, attention and norms; None: the platform's "
      'default',
      choices=NORM_AND_LINEAR_BACKENDS,
      role='compute',
      cpu_only=('cpu',),
    ),
    'scan': Field(False, 'compile one block and loop over it', role='compute'),
    'remat': Field(
      False, 'recompute activations to save memory', role='compute'
    ),
  }


# The fields of programs that have to run without this package.
PORTABLE = {'cpu': {'backend': 'xla'}, 'default': {'backend': 'xla'}}


def patch_grid(images: jax.Array, patch_size: int) -> tuple[int, int]:
  """Returns rows and columns of the patches of images `[B, H, W, C]`.

  Raises:
    UserError: patches do not divide the images.
  """
  height, width = images.shape[1:3]
  p = patch_size
  if height % p or width % p or not height or not width:
    raise UserError(
      f'config.model.patch_size = {p} does not divide the image ({height} x '
      f'{width}); choose a size that is a multiple of {p}'
    )
  return height // p, width // p


def add_branch(
  x: jax.Array, branch: jax.Array, rate: jax.Array, block: nn.Module
) -> jax.Array:
  """Returns `x + branch`, dropped in some images if `block.drops`."""
  if block.drops:
    branch = drop_path(branch, rate, block.make_rng('dropout'))
  return kernels.stored_gradient(x + branch)


class TokenNetwork(nn.Module):
  """What networks of tokens have in common: attributes, and how blocks run.

  The blocks' parameters are stacked along a leading axis `[depth, ...]`,
  whether they run as a loop or unrolled, so a checkpoint serves both.

  Attributes:
    width: channels of a token.
    depth: number of blocks.
    patch_size: side of a patch p, in pixels.
    mlp_ratio: hidden channels of the MLP in each token, in widths.
    num_classes: outputs of the head.
    dtype: compute dtype; parameters are float32.
    drop_path: probability, in training, of dropping a branch; a subclass says
      of which blocks. Draws from `dropout`.
    backend: of attention, of the norms but ViT's last, which normalises few
      tokens, and of the dense layers but the head; see `kernels.linear`.
    scan: compile one block and loop over it, instead of `depth` copies.
    remat: recompute the blocks' insides in the backward pass, for memory.
    gather: what the parameters of each block go through before use, or None.
  """

  width: int
  depth: int
  patch_size: int
  mlp_ratio: int = 4
  num_classes: int = 1000
  dtype: jnp.dtype = jnp.float32
  drop_path: float = 0.0
  backend: str | None = None
  scan: bool = False
  remat: bool = False
  gather: GatherFn | None = None

  def run_blocks(
    self,
    block: type[nn.Module],
    x: jax.Array,
    rates: np.ndarray,
    *,
    train: bool,
    **fields: Any,
  ) -> jax.Array:
    """Runs the blocks, as the module `blocks`; to be called in `__call__`.

    Args:
      block: a module that maps tokens and a rate to tokens and None.
      x: tokens `[B, N, C]`.
      rates: float32 `[depth]`, of drop path in each block.
      train: whether branches are dropped.
      **fields: of the block, besides `drops`, `dtype` and `backend`.

    Returns:
      Tokens, like `x`.
    """
    policy = jax.checkpoint_policies.nothing_saveable if self.remat else None
    blocks = nn.scan(
      create_block(block, gather=self.gather, policy=policy, scan=self.scan),
      variable_axes={'params': 0, 'intermediates': 0, 'perturbations': 0},
      split_rngs={'params': True, 'dropout': True},
      length=self.depth,
      unroll=1 if self.scan else self.depth,
    )
    drops = train and self.drop_path > 0
    fields |= {'drops': drops, 'dtype': self.dtype, 'backend': self.backend}
    x, _ = blocks(name='blocks', **fields)(x, jnp.asarray(rates))
    return x
