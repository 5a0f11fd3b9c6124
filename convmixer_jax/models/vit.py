"""ViT (arXiv 2010.11929), in Flax; DeiT (2012.12877) is the same network.

patches -> dense; class token first; + position embedding
depth times: x + attention(LayerNorm(x)), then x + MLP(LayerNorm(x))
head: LayerNorm -> class token -> dense
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax.errors import UserError
from convmixer_jax.models.architecture import Architecture, StateDictMap
from convmixer_jax.models.fields import Field, check_fields
from convmixer_jax.models.layers import (
  Attention,
  Dense,
  LayerNorm,
  Mlp,
  PatchTokens,
  divisors,
  expose,
  resample,
)
from convmixer_jax.models.shapes import variable_shapes
from convmixer_jax.models.state_dict import Table, clean, count_blocks, size
from convmixer_jax.models.tokens import (
  PORTABLE,
  TokenNetwork,
  add_branch,
  patch_grid,
  token_fields,
)
from convmixer_jax.models.vit_onnx import to_onnx
from convmixer_jax.models.vit_released import RELEASED
from convmixer_jax.models.vit_table import TABLE, assume, grid_of, image_size
from convmixer_jax.models.vit_timm import timm_model
from convmixer_jax.models.vit_torchvision import rename, timm_name

INIT = nn.initializers.normal(0.02)  # of all kernels but the patches'

FIELDS = token_fields(
  'probability of dropping a branch of the last block; linear over depth',
  heads=Field(4, 'attention heads; they divide the width', minimum=1),
)


class Block(nn.Module):
  """One layer: attention between tokens, then an MLP in each."""

  heads: int
  mlp_ratio: int
  grid: tuple[int, int]  # rows and columns of patches
  drops: bool
  dtype: jnp.dtype
  backend: str | None

  @nn.compact
  def __call__(self, x: jax.Array, rate: jax.Array) -> tuple[jax.Array, None]:
    """Maps `[B, N, C]` to the same shape; `rate` is that of drop path."""
    how: dict[str, Any] = {'dtype': self.dtype, 'backend': self.backend}
    hidden = self.mlp_ratio * x.shape[-1]
    y = LayerNorm(**how, name='attention_norm')(x)
    attention = Attention(self.heads, INIT, **how, name='attention')
    x = add_branch(x, attention(y), rate, self)
    y = LayerNorm(**how, name='mlp_norm')(x)
    mlp = Mlp(hidden, INIT, **how, name='mlp')
    x = add_branch(x, mlp(y), rate, self)
    return _expose(self, 'output', x, self.grid), None


def _expose(module, name, x, grid):
  """Exposes the patches among tokens `[B, N, C]` as a grid; returns `x`."""
  module.sow('intermediates', f'{name}_class_token', x[:, 0])
  others = x.shape[1] - grid[0] * grid[1]
  patches = x[:, others:].reshape(x.shape[0], *grid, -1)
  exposed = expose(module, name, patches)
  if exposed is patches:
    return x
  exposed = exposed.reshape(x.shape[0], -1, x.shape[-1])
  return jnp.concatenate([x[:, :others], exposed], axis=1)


class ViT(TokenNetwork):
  """ViT-width/depth with a class token.

  With `mutable=['intermediates']`, `apply` also returns the blocks' outputs
  without the class token, `['blocks']['output'][0]`: `[depth, B, H / p, W / p,
  width]`, and more; `models.features` names them.

  Images may have another size than those of initialisation: the position
  embedding, a grid and the class token's, is then resampled (bicubic, with
  antialias) in each forward pass.

  Attributes:
    heads: of the attention.
    native_size: height and width of the images that the position embedding is
      for; None for square ones.

  `drop_path` is that of the last block, from 0 for the first, linear over
  depth. See `TokenNetwork` for the other attributes.

  Raises:
    UserError: a field is out of range (on construction), or patches do not
      divide an image (on call).
  """

  heads: int = 4
  native_size: tuple[int, int] | None = None

  # Parameters of the tokens before the patches, and how they are initialised:
  # timm's; DeiT's own code has 0.02 here.
  tokens: ClassVar[Mapping[str, nn.initializers.Initializer]] = {
    'class_token': nn.initializers.normal(1e-6)
  }

  def __post_init__(self):
    check_fields(FIELDS, self)
    if self.width % self.heads:
      raise UserError(
        f'config.model.heads = {self.heads} does not divide '
        f'config.model.width = {self.width}; choose one of '
        f'{", ".join(map(str, divisors(self.width)))}'
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Classifies images.

    Args:
      images: `[B, H, W, C]`, normalised; `patch_size` divides both sides.
      train: whether branches are dropped.

    Returns:
      Logits `[B, num_classes]`, float32. With `mutable='intermediates'` also
      what the head sees, `['intermediates']['features'][0]`: `[B, width]`.
    """
    p = self.patch_size
    grid = patch_grid(images, p)
    embedding = PatchTokens(
      self.width, p, self.dtype, self.backend, name='patch_embedding'
    )
    x = embedding(images)
    x = x.reshape(x.shape[0], -1, self.width)
    tokens = [
      jnp.broadcast_to(
        self.param(name, init, (1, 1, self.width)), (x.shape[0], 1, self.width)
      )
      for name, init in self.tokens.items()
    ]
    # In float32, so that the embeddings' gradients are.
    x = jnp.concatenate([*tokens, x.astype(jnp.float32)], axis=1)
    x = (x + self._position_embedding(grid)).astype(self.dtype)
    x = _expose(self, 'stem', x, grid)

    rates = np.linspace(0, self.drop_path, self.depth, dtype=np.float32)
    x = self.run_blocks(
      Block,
      x,
      rates,
      train=train,
      heads=self.heads,
      mlp_ratio=self.mlp_ratio,
      grid=grid,
    )

    norm = LayerNorm(jnp.float32, name='norm')
    if self.is_mutable_collection('intermediates'):
      _expose(self, 'last', norm(x), grid)
    return self.classify(x, norm)

  def classify(self, x: jax.Array, norm: nn.Module) -> jax.Array:
    """Returns logits `[B, K]` of tokens `[B, N, C]`, and sows `features`.

    To be called in `__call__`.

    Args:
      x: what the blocks return.
      norm: the last normalisation.
    """
    features = norm(x[:, 0])
    self.sow('intermediates', 'features', features)
    return Dense(self.num_classes, INIT, name='head')(features)

  def _position_embedding(self, grid):
    """Returns `[1, T + rows * columns, width]` for T tokens and the patches."""
    name, others = 'position_embedding', len(self.tokens)
    if not self.has_variable('params', name):
      shape = (1, others + grid[0] * grid[1], self.width)
      return self.param(name, INIT, shape)
    table = self.get_variable('params', name)
    old_grid = grid_of(self.native_size, self.patch_size)
    return resample(table, grid, old_grid, others)


def resize(
  params: Mapping[str, Any],
  model: ViT,
  old_size: tuple[int, int],
  new_size: tuple[int, int],
) -> dict[str, Any]:
  """Resamples the position embedding from the grid of one size to another's."""
  name = 'position_embedding'
  old_grid, grid = (
    (height // model.patch_size, width // model.patch_size)
    for height, width in (old_size, new_size)
  )
  table = resample(params[name], grid, old_grid, len(model.tokens))
  return {**params, name: np.asarray(table)}


def infer_fields(
  tensors: Mapping[str, np.ndarray],
  source: str,
  module: type[ViT] = ViT,
  table: Table = TABLE,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """See `StateDictMap.infer_fields`; heads do not show in the shapes.

  Args:
    tensors: see there.
    source: see there.
    module: of the network.
    table: of its tensors.
  """
  tensors = rename(clean(tensors))
  width = size(tensors, 'cls_token', -1)
  hidden = size(tensors, 'blocks.0.mlp.fc1.weight', 0)
  fields: dict[str, Any] = {
    'width': width,
    'depth': max(count_blocks(tensors, 'blocks.I.norm1.weight'), 1),
    'patch_size': size(tensors, 'patch_embed.proj.weight', -1),
    'mlp_ratio': max(hidden // width, 1),
    'num_classes': size(tensors, 'head.weight', 0),
  }
  pixels = image_size(fields, tensors, len(module.tokens))
  model = module(**fields, heads=1)
  channels = size(tensors, 'patch_embed.proj.weight', 1)
  shapes = variable_shapes(model, pixels, channels)
  # A grid that is not square has the number of patches that it has.
  embedding = shapes['params']['position_embedding']
  count = size(tensors, 'pos_embed', 1)
  shapes['params']['position_embedding'] = jax.ShapeDtypeStruct(
    (1, count, embedding.shape[-1]), embedding.dtype
  )
  return fields, table.check(tensors, shapes, source, channels)


BASE = {'width': 768, 'depth': 12, 'patch_size': 16, 'heads': 12}

VIT = Architecture(
  module=ViT,
  fields=FIELDS,
  stacked=('blocks',),
  before_blocks=('class_token', 'position_embedding', 'patch_embedding'),
  variants={'vit_b16': BASE, 'deit_b': BASE},
  state_dict=StateDictMap(
    matches=lambda name: TABLE.matches(timm_name(name)),
    infer_fields=infer_fields,
    from_timm=TABLE.from_timm,
    to_timm=TABLE.to_timm,
    assume=assume,
    image_size=image_size,
    timm_names={
      'vit_base_patch16_224': 'vit_b16',
      'vit_base_patch16_384': 'vit_b16',
      'deit_base_patch16_224': 'deit_b',
      'deit_base_patch16_384': 'deit_b',
    },
    timm_model=timm_model,
  ),
  resize=resize,
  stem=('patch_embedding', 'projection', 'kernel'),
  to_onnx=to_onnx,
  portable=PORTABLE,
  default_input={'eval_crop_fraction': 0.9},
  released=RELEASED,
)
