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

from convmixer_jax import kernels
from convmixer_jax.errors import UserError
from convmixer_jax.models.layers import (
  Dense,
  expose,
  to_patches,
)
from convmixer_jax.models.shapes import variable_shapes
from convmixer_jax.models.state_dict import Table, count_blocks, size
from convmixer_jax.models.tokens import TokenNetwork, patch_grid

DROP_PATH = 'probability of dropping a branch, the same in all blocks'


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


class FixedTokens(TokenNetwork):
  """A network without its blocks, which a subclass brings.

  With `mutable=['intermediates']`, `apply` also returns the blocks' outputs,
  `['blocks']['output'][0]`: `[depth, B, H / p, W / p, width]`.

  `drop_path` is the same in all blocks, as in the authors' code. See
  `TokenNetwork` for the attributes.

  Raises:
    UserError: a field is out of range (on construction); patches do not divide
      an image, or it has another number of them than the parameters are for
      (on call).
  """

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
    grid = patch_grid(images, self.patch_size)
    if self.has_variable('params', 'blocks'):
      _require_tokens(self.get_variable('params', 'blocks'), grid)
    x = Dense(
      self.width,
      *layers.patch_inits,
      self.dtype,
      self.backend,
      name='patch_embedding',
    )(to_patches(images, self.patch_size))
    x = expose(self, 'stem', x)
    x = x.reshape(x.shape[0], -1, self.width)

    rates = np.full(self.depth, self.drop_path, np.float32)
    x = self.run_blocks(
      layers.block, x, rates, train=train, grid=grid, **layers.fields
    )

    x = layers.norm(jnp.float32, name='norm')(x)
    x = expose_tokens(self, 'last', x, grid)
    features = jnp.mean(x, axis=1)
    self.sow('intermediates', 'features', features)
    return Dense(self.num_classes, layers.head_init, name='head')(features)


def require_same_tokens(
  params: Mapping[str, Any],
  model: nn.Module,
  old_size: tuple[int, int],
  new_size: tuple[int, int],
) -> Mapping[str, Any]:
  """Returns parameters as they are; see `Architecture.resize`.

  Raises:
    UserError: images of the new size have another number of patches.
  """
  del old_size  # the parameters say for how many patches they are
  grid = [side // model.patch_size for side in new_size]
  _require_tokens(params['blocks'], grid)
  return params


def _require_tokens(blocks, grid):
  """Raises UserError if blocks are for another number of tokens."""
  kernels = [
    leaf for leaf in jax.tree.leaves(blocks['token_mixer']) if leaf.ndim == 3
  ]
  have = kernels[-1].shape[-2]  # of the first layer: 'contract' sorts before it
  need = grid[0] * grid[1]
  if have != need:
    raise UserError(
      f'the network is for images of {have} patches, and these have {need}; '
      'its layers over patches cannot be resampled: choose the image size that '
      'it was trained at, or train a new one'
    )


def expose_tokens(
  module: nn.Module, name: str, x: jax.Array, grid: tuple[int, int]
) -> jax.Array:
  """Exposes tokens `[B, N, C]` as a grid; see `layers.expose`."""
  exposed = expose(module, name, x.reshape(x.shape[0], *grid, -1))
  return exposed.reshape(x.shape)


def over_tokens(
  layer: nn.Module, x: jax.Array, backend: str | None = None
) -> jax.Array:
  """Applies a layer to the axis N of `[B, N, C]` instead of C.

  Args:
    layer: of `[B, C, N]`.
    x: `[B, N, C]`.
    backend: see `kernels.swap_tokens`.
  """
  y = layer(kernels.swap_tokens(x, backend=backend))
  return kernels.swap_back(y, backend=backend)


def infer_fields(
  tensors: Mapping[str, np.ndarray],
  module: type[nn.Module],
  fields: Mapping[str, Any],
  tokens: int,
  file_table: Table,
  source: str,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Returns what `StateDictMap.infer_fields` does.

  Args:
    tensors: by timm's names.
    module: of the network.
    fields: those that are particular to it.
    tokens: that the layers are for.
    file_table: of its tensors.
    source: what the tensors were read from, for errors.

  Raises:
    UserError: some tensors are missing, surplus or misshapen.
  """
  width = size(tensors, 'stem.proj.weight', 0)
  hidden = size(tensors, 'blocks.0.mlp_channels.fc1.weight', 0)
  fields = {
    'width': width,
    'depth': max(count_blocks(tensors, 'blocks.I.mlp_channels.fc1.bias'), 1),
    'patch_size': size(tensors, 'stem.proj.weight', -1),
    'mlp_ratio': max(hidden // max(width, 1), 1),
    'num_classes': size(tensors, 'head.weight', 0),
    **fields,
  }
  channels = size(tensors, 'stem.proj.weight', 1)
  # Images of one row of patches have as many as any.
  row = (fields['patch_size'], fields['patch_size'] * max(tokens, 1))
  shapes = variable_shapes(module(**fields), row, channels)
  return fields, file_table.check(tensors, shapes, source, channels)


def image_size(fields: Mapping[str, Any], tokens: int) -> int | None:
  """Returns the side of the square images that have a number of tokens."""
  side = round(tokens**0.5)
  return side * fields['patch_size'] if side**2 == tokens else None
