"""MLP-Mixer (arXiv 2105.01601), in Flax.

patches -> dense
depth times: x + MLP over the tokens of LayerNorm(x), then x + MLP(LayerNorm(x))
head: LayerNorm -> mean over the tokens -> dense

Initialised as in the authors' code (Flax's defaults, a head of zeros), not as
in timm.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax.models import fixed_tokens, fixed_tokens_timm
from convmixer_jax.models.architecture import Architecture, StateDictMap
from convmixer_jax.models.fields import Field, check_fields
from convmixer_jax.models.fixed_tokens import (
  FixedTokens,
  Layers,
  expose_tokens,
  over_tokens,
)
from convmixer_jax.models.fixed_tokens_onnx import to_onnx
from convmixer_jax.models.layers import LayerNorm, Mlp
from convmixer_jax.models.released import HALF, Released, by_tag
from convmixer_jax.models.state_dict import (
  Table,
  clean,
  dense,
  norm,
  size,
)
from convmixer_jax.models.tokens import PORTABLE, add_branch, token_fields

_INIT = nn.initializers.lecun_normal()

FIELDS = token_fields(
  fixed_tokens.DROP_PATH,
  token_hidden=Field(32, 'hidden units of the MLP over the tokens', 1),
)


class Block(nn.Module):
  """One layer: an MLP over the tokens, then one in each."""

  mlp_ratio: int
  token_hidden: int
  grid: tuple[int, int]  # rows and columns of patches
  drops: bool
  dtype: jnp.dtype
  backend: str | None

  @nn.compact
  def __call__(self, x: jax.Array, rate: jax.Array) -> tuple[jax.Array, None]:
    """Maps `[B, N, C]` to the same shape; `rate` is that of drop path."""
    how: dict[str, Any] = {'dtype': self.dtype, 'backend': self.backend}
    y = LayerNorm(**how, name='token_norm')(x)
    mixer = Mlp(self.token_hidden, _INIT, **how, name='token_mixer')
    x = add_branch(x, over_tokens(mixer, y, self.backend), rate, self)
    y = LayerNorm(**how, name='mlp_norm')(x)
    hidden = self.mlp_ratio * x.shape[-1]
    y = Mlp(hidden, _INIT, **how, name='mlp')(y)
    x = add_branch(x, y, rate, self)
    return expose_tokens(self, 'output', x, self.grid), None


class Mixer(FixedTokens):
  """Mixer-width/depth; see `FixedTokens`.

  Attributes:
    token_hidden: hidden units of the MLP over the tokens.
  """

  token_hidden: int = 32

  def __post_init__(self):
    check_fields(FIELDS, self)
    super().__post_init__()

  def layers(self, channels: int) -> Layers:
    """See `FixedTokens.layers`."""
    return Layers(
      Block,
      {'mlp_ratio': self.mlp_ratio, 'token_hidden': self.token_hidden},
      (_INIT, nn.initializers.zeros),
      functools.partial(LayerNorm, backend=self.backend),
      nn.initializers.zeros,
    )


_TABLE = Table(
  [
    *dense(('patch_embedding',), 'stem.proj', 'patches'),
    *norm(('blocks', 'token_norm'), 'blocks.I.norm1'),
    *dense(('blocks', 'token_mixer', 'expand'), 'blocks.I.mlp_tokens.fc1'),
    *dense(('blocks', 'token_mixer', 'contract'), 'blocks.I.mlp_tokens.fc2'),
    *norm(('blocks', 'mlp_norm'), 'blocks.I.norm2'),
    *dense(('blocks', 'mlp', 'expand'), 'blocks.I.mlp_channels.fc1'),
    *dense(('blocks', 'mlp', 'contract'), 'blocks.I.mlp_channels.fc2'),
    *norm(('norm',), 'norm'),
    *dense(('head',), 'head'),
  ],
  'MLP-Mixer',
)


def _infer_fields(
  tensors: Mapping[str, np.ndarray], source: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """See `StateDictMap.infer_fields`."""
  tensors = clean(tensors)
  tokens = size(tensors, 'blocks.0.mlp_tokens.fc1.weight', -1)
  hidden = size(tensors, 'blocks.0.mlp_tokens.fc1.weight', 0)
  fields = {'token_hidden': hidden}
  return fixed_tokens.infer_fields(
    tensors, Mixer, fields, tokens, _TABLE, source
  )


def _image_size(
  fields: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> int | None:
  """Returns the side of the images that have as many patches as the layers."""
  tokens = size(tensors, 'blocks.0.mlp_tokens.fc1.weight', -1)
  return fixed_tokens.image_size(fields, tokens)


MIXER = Architecture(
  module=Mixer,
  fields=FIELDS,
  stacked=('blocks',),
  before_blocks=('patch_embedding',),
  stem=('patch_embedding', 'kernel'),
  variants={
    'mixer_b16': {
      'width': 768,
      'depth': 12,
      'patch_size': 16,
      'token_hidden': 384,
    }
  },
  state_dict=StateDictMap(
    matches=_TABLE.matches,
    infer_fields=_infer_fields,
    from_timm=_TABLE.from_timm,
    to_timm=_TABLE.to_timm,
    image_size=_image_size,
    timm_model=fixed_tokens_timm.mixer,
    timm_names={'mixer_b16_224': 'mixer_b16'},
  ),
  resize=fixed_tokens.require_same_tokens,
  to_onnx=to_onnx,
  portable=PORTABLE,
  released=by_tag(
    [
      Released(
        'mixer_b16_224.goog_in21k_ft_in1k',
        'mixer_b16',
        76.616,
        92.250,
        mean=HALF,
        std=HALF,
        files=('jx_mixer_b16_224-76587d61.pth',),
      ),
      Released(
        'mixer_b16_224.miil_in21k_ft_in1k',
        'mixer_b16',
        82.314,
        95.710,
        eval_interpolation='bilinear',
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        files=('mixer_b16_224_miil-9229a591.pth',),
      ),
    ]
  ),
)
