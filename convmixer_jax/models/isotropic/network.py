"""An isotropic network: one grid of tokens from the stem to the head.

stem (-> activation -> norm); (class token first;) (+ position embedding)
depth times: a token mixer, then a channel mixer; see `block.py`
head: (norm, if norms are before the mixers ->) mean or class token -> dense
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax import kernels
from convmixer_jax.errors import UserError
from convmixer_jax.models.fields import check_fields
from convmixer_jax.models.isotropic import initializers
from convmixer_jax.models.isotropic.block import Block, expose_tokens
from convmixer_jax.models.isotropic.checks import check_settings
from convmixer_jax.models.isotropic.fields import (
  FIELDS,
  FIXED_TOKENS,
  has_class_token,
  settings_of,
)
from convmixer_jax.models.isotropic.norms import normalize
from convmixer_jax.models.isotropic.stems import apply_stem
from convmixer_jax.models.layers import (
  Dense,
  GatherFn,
  create_block,
  resample,
)

# Collections whose arrays have a leading axis for the blocks.
_BY_BLOCK = 'params', 'batch_stats', 'intermediates', 'perturbations'
_POSITIONS = 'positions'


class Isotropic(nn.Module):
  """A network whose stem and mixers are fields; see `fields.FIELDS` for all.

  With the fields that `corners.CORNERS` has, it is a ConvMixer, a ViT, a ResMLP
  or an MLP-Mixer.

  The blocks' parameters are stacked along a leading axis `[depth, ...]`,
  whether they run as a loop or unrolled, so a checkpoint serves both. With
  `mutable=['intermediates']`, `apply` also returns the blocks' outputs,
  `['blocks']['output'][0]`: `[depth, B, H / p, W / p, width]`, and more;
  `models.features` names them.

  `drop_path` draws from `dropout`.

  Raises:
    UserError: a field is out of range, or fields contradict each other (on
      construction); or an image does not fit the network (on call).
  """

  width: int
  depth: int
  patch_size: int
  stem: str = 'patches'
  stem_activation: bool = True
  token_mixer: str = 'convolution'
  kernel_size: int = 5
  heads: int = 4
  token_hidden: int = 32
  token_activation: bool = True
  channel_mixer: str = 'pointwise'
  mlp_ratio: int = 4
  activation: str = 'gelu'
  norm: str = 'batch'
  norm_place: str = 'after'
  residual: str = 'token'
  layer_scale: float = 0.0
  position_embedding: bool = False
  pooling: str = 'mean'
  num_classes: int = 1000
  dtype: jnp.dtype = jnp.float32
  drop_path: float = 0.0
  bn_group_size: int = 0
  depthwise: str | None = None
  scan: bool = False
  remat: bool = False
  gather: GatherFn | None = None
  native_size: tuple[int, int] | None = None

  def __post_init__(self):
    check_fields(FIELDS, self)
    check_settings(self)
    super().__post_init__()

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Classifies images.

    Args:
      images: `[B, H, W, C]`, normalised. With a token mixer that is linear, an
        MLP or random they have the size of initialisation; with others any, for
        which a position embedding is resampled (bicubic, with antialias).
      train: whether BatchNorm uses the statistics of this batch, and branches
        are dropped.

    Returns:
      Logits `[B, num_classes]`, float32. With `mutable='intermediates'` also
      what the head sees, `['intermediates']['features'][0]`: `[B, width]`.
    """
    settings = settings_of(self)
    x = apply_stem(settings, images, train=train)
    grid = x.shape[1], x.shape[2]
    self._require_same_tokens(grid)
    x = self._add_class_token_and_positions(x, grid)
    x = expose_tokens(self, 'stem', x, grid)

    rates = np.linspace(0, self.drop_path, self.depth, dtype=np.float32)
    blocks = nn.scan(
      create_block(
        Block, gather=self.gather, policy=self._policy(), scan=self.scan
      ),
      variable_axes=dict.fromkeys(_BY_BLOCK, 0),
      split_rngs={'params': True, 'dropout': True},
      length=self.depth,
      unroll=1 if self.scan else self.depth,
    )
    drops = train and self.drop_path > 0
    x, _ = blocks(settings, grid, drops, train, name='blocks')(
      x, jnp.asarray(rates)
    )

    x = x.astype(jnp.float32)
    if self.norm_place == 'before':
      x = normalize(
        settings,
        x,
        activation=None,
        norm=self.norm,
        name='final_norm',
        train=train,
      )
      x = expose_tokens(self, 'last', x, grid)
    features = x[:, 0, 0] if has_class_token(self) else jnp.mean(x, (1, 2))
    self.sow('intermediates', 'features', features)
    inits = initializers.of_head(settings)
    return Dense(self.num_classes, *inits, name='head')(features)

  def _policy(self):
    """Returns what the backward pass keeps of a block; None: all it asks for.

    As in ConvMixer: a loop would save more than what is worth it.
    """
    if self.remat:
      return jax.checkpoint_policies.nothing_saveable
    is_loop = self.scan or self.gather is not None
    if is_loop and (self.token_mixer, self.norm) == ('convolution', 'batch'):
      return jax.checkpoint_policies.save_only_these_names(
        kernels.SAVED_ACTIVATION
      )
    return None

  def _add_class_token_and_positions(self, x, grid):
    """Returns `x` `[B, h, w, C]` with what the fields ask for."""
    has_token = has_class_token(self)
    dtype = x.dtype
    if has_token:
      token = self.param(
        'class_token', initializers.CLASS_TOKEN, (1, 1, 1, self.width)
      )
      token = jnp.broadcast_to(token, (x.shape[0], 1, 1, self.width))
      # In float32, so that the embeddings' gradients are.
      x = x.reshape(x.shape[0], -1, 1, self.width).astype(jnp.float32)
      x = jnp.concatenate([token, x], axis=1)
    if self.position_embedding:
      x = x.astype(jnp.float32)
      positions = self._positions(grid, has_token)
      x += positions.reshape(1, *x.shape[1:])
    return x.astype(dtype)

  def _positions(self, grid, has_token):
    """Returns `[1, N, width]` for the tokens of an image, with its own."""
    if not self.has_variable('params', _POSITIONS):
      shape = (1, has_token + grid[0] * grid[1], self.width)
      return self.param(_POSITIONS, initializers.NORMAL, shape)
    table = self.get_variable('params', _POSITIONS)
    old_grid = None
    if self.native_size is not None:
      old_grid = tuple(side // self.patch_size for side in self.native_size)
    return _resample(table, grid, old_grid, has_token)

  def _require_same_tokens(self, grid):
    """Raises UserError if the token mixer is for another number of tokens."""
    if self.token_mixer not in FIXED_TOKENS:
      return
    for collection in ('params', 'batch_stats'):
      if self.has_variable(collection, 'blocks'):
        mixer = self.get_variable(collection, 'blocks').get('token_mixer', {})
        layers = [leaf for leaf in jax.tree.leaves(mixer) if leaf.ndim == 3]
        if layers:
          # Of an MLP the first layer's: 'contract' sorts before 'expand'.
          have = layers[-1].shape[-2]
          _require_tokens(have, has_class_token(self) + math.prod(grid))


def _resample(table, grid, old_grid, has_token):
  """Returns `layers.resample` of a table that may lack the class token."""
  if has_token:
    return resample(table, grid, old_grid)
  padded = jnp.concatenate([jnp.zeros_like(table[:, :1]), table], axis=1)
  return resample(padded, grid, old_grid)[:, 1:]


def _require_tokens(have, need):
  """Raises UserError if a network is for another number of tokens."""
  if have != need:
    raise UserError(
      f'the network is for {have} tokens, and images of this size have {need}; '
      'its token mixer cannot be resampled: choose the image size that it was '
      'trained at, or train a new network'
    )


def resize(
  params: Mapping[str, Any],
  model: Isotropic,
  old_size: tuple[int, int],
  new_size: tuple[int, int],
) -> Mapping[str, Any]:
  """Brings parameters to another image size; see `Architecture.resize`.

  Raises:
    UserError: the token mixer's layers fit one number of tokens only, and it is
      another one.
  """
  old_grid, grid = (
    tuple(side // model.patch_size for side in size)
    for size in (old_size, new_size)
  )
  has_token = has_class_token(model)
  if model.token_mixer in FIXED_TOKENS:
    _require_tokens(
      has_token + math.prod(old_grid), has_token + math.prod(grid)
    )
  if _POSITIONS not in params:
    return params
  table = _resample(params[_POSITIONS], grid, old_grid, has_token)
  return {**params, _POSITIONS: np.asarray(table)}
