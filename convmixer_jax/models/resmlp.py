"""ResMLP (arXiv 2105.03404), in Flax.

patches -> dense
depth times: x + scale * (one linear map over the tokens of affine(x)), then
  x + scale * MLP(affine(x))
head: affine -> mean over the tokens -> dense

Initialised as in the authors' code, not as in timm.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax import kernels
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
from convmixer_jax.models.layers import Dense, Mlp, uniform_init
from convmixer_jax.models.released import Released, by_tag
from convmixer_jax.models.state_dict import (
  Entry,
  Table,
  clean,
  dense,
  size,
)
from convmixer_jax.models.tokens import PORTABLE, add_branch, token_fields

_INIT = nn.initializers.normal(0.02)  # of all kernels but the patches'

FIELDS = token_fields(
  fixed_tokens.DROP_PATH,
  layer_scale=Field(
    1e-5,
    'initial value of the factors of the branches, one for each channel',
    minimum=0,
    role='training',
  ),
)


class Affine(nn.Module):
  """Factor and offset of each channel: a normalisation without statistics.

  Attributes:
    dtype: of the result.
    backend: of the gradient; see `kernels.channel_affine`.
  """

  dtype: jnp.dtype
  backend: str | None = 'xla'

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[..., C]` to the same shape."""
    shape = x.shape[-1:]
    scale = self.param('scale', nn.initializers.ones, shape)
    bias = self.param('bias', nn.initializers.zeros, shape)
    return kernels.channel_affine(
      x, scale, bias, dtype=self.dtype, backend=self.backend
    )


class Block(nn.Module):
  """One layer: a linear map over the tokens, then an MLP in each."""

  mlp_ratio: int
  layer_scale: float
  grid: tuple[int, int]  # rows and columns of patches
  drops: bool
  dtype: jnp.dtype
  backend: str | None

  @nn.compact
  def __call__(self, x: jax.Array, rate: jax.Array) -> tuple[jax.Array, None]:
    """Maps `[B, N, C]` to the same shape; `rate` is that of drop path."""
    how: dict[str, Any] = {'dtype': self.dtype, 'backend': self.backend}
    width = x.shape[-1]
    init = nn.initializers.constant(self.layer_scale)

    def scaled(branch, name):
      scale = self.param(name, init, (width,))
      return kernels.channel_affine(branch, scale, **how)

    y = Affine(**how, name='token_affine')(x)
    mixer = Dense(x.shape[1], _INIT, **how, name='token_mixer')
    y = over_tokens(mixer, y, self.backend)
    x = add_branch(x, scaled(y, 'token_scale'), rate, self)
    y = Affine(**how, name='mlp_affine')(x)
    y = Mlp(self.mlp_ratio * width, _INIT, **how, name='mlp')(y)
    x = add_branch(x, scaled(y, 'mlp_scale'), rate, self)
    return expose_tokens(self, 'output', x, self.grid), None


class ResMLP(FixedTokens):
  """ResMLP-width/depth; see `FixedTokens`.

  Attributes:
    layer_scale: initial value of the factors of the branches.
  """

  layer_scale: float = 1e-5

  def __post_init__(self):
    check_fields(FIELDS, self)
    super().__post_init__()

  def layers(self, channels: int) -> Layers:
    """See `FixedTokens.layers`."""
    init = uniform_init(self.patch_size**2 * channels)
    fields = {'mlp_ratio': self.mlp_ratio, 'layer_scale': self.layer_scale}
    norm = functools.partial(Affine, backend=self.backend)
    return Layers(Block, fields, (init, init), norm, _INIT)


def _affine(path: tuple[str, ...], name: str) -> list[Entry]:
  """Returns the entries of an `Affine`."""
  return [
    Entry(('params', *path, 'scale'), f'{name}.alpha', 'channels'),
    Entry(('params', *path, 'bias'), f'{name}.beta', 'channels'),
  ]


_TABLE = Table(
  [
    *dense(('patch_embedding',), 'stem.proj', 'patches'),
    *_affine(('blocks', 'token_affine'), 'blocks.I.norm1'),
    *dense(('blocks', 'token_mixer'), 'blocks.I.linear_tokens'),
    Entry(('params', 'blocks', 'token_scale'), 'blocks.I.ls1'),
    *_affine(('blocks', 'mlp_affine'), 'blocks.I.norm2'),
    *dense(('blocks', 'mlp', 'expand'), 'blocks.I.mlp_channels.fc1'),
    *dense(('blocks', 'mlp', 'contract'), 'blocks.I.mlp_channels.fc2'),
    Entry(('params', 'blocks', 'mlp_scale'), 'blocks.I.ls2'),
    *_affine(('norm',), 'norm'),
    *dense(('head',), 'head'),
  ],
  'ResMLP',
)
# The authors' names of what timm calls otherwise.
_AUTHORS = (
  (re.compile(r'^patch_embed\.'), 'stem.'),
  (re.compile(r'^(blocks\.\d+)\.attn\.'), r'\1.linear_tokens.'),
  (re.compile(r'^(blocks\.\d+)\.mlp\.'), r'\1.mlp_channels.'),
  (re.compile(r'^(blocks\.\d+)\.gamma_'), r'\1.ls'),
)


def _timm_name(name: str) -> str:
  for pattern, replacement in _AUTHORS:
    name = pattern.sub(replacement, name)
  return name


def _matches(name: str) -> bool:
  return _TABLE.matches(_timm_name(name))


def _infer_fields(
  tensors: Mapping[str, np.ndarray], source: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """See `StateDictMap.infer_fields`; the authors' files are read as well."""
  tensors = {
    _timm_name(name): tensor for name, tensor in clean(tensors).items()
  }
  for name, tensor in tensors.items():
    if name.endswith(('.alpha', '.beta')) and tensor.ndim == 1:
      tensors[name] = tensor.reshape(1, 1, -1)  # as timm has it
  tokens = size(tensors, 'blocks.0.linear_tokens.weight', 0)
  return fixed_tokens.infer_fields(tensors, ResMLP, {}, tokens, _TABLE, source)


def _image_size(
  fields: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> int | None:
  """Returns the side of the images that have as many patches as the layers."""
  tokens = size(tensors, 'blocks.0.linear_tokens.weight', 0)
  return fixed_tokens.image_size(fields, tokens)


_RELEASED = (  # tag, variant, top-1, top-5, the authors' file
  (
    'resmlp_12_224.fb_in1k',
    'resmlp_s12',
    76.660,
    None,
    'resmlp_12_no_dist.pth',
  ),
  (
    'resmlp_24_224.fb_in1k',
    'resmlp_s24',
    79.380,
    None,
    'resmlp_24_no_dist.pth',
  ),
  (
    'resmlp_24_224.fb_distilled_in1k',
    'resmlp_s24',
    80.766,
    None,
    'resmlp_24_dist.pth',
  ),
  (
    'resmlp_36_224.fb_in1k',
    'resmlp_s36',
    79.772,
    None,
    'resmlp_36_no_dist.pth',
  ),
  (
    'resmlp_big_24_224.fb_in1k',
    'resmlp_b24_8',
    81.034,
    95.026,
    'resmlpB_24_no_dist.pth',
  ),
  (
    'resmlp_big_24_224.fb_distilled_in1k',
    'resmlp_b24_8',
    83.594,
    None,
    'resmlpB_24_dist.pth',
  ),
  (
    'resmlp_big_24_224.fb_in22k_ft_in1k',
    'resmlp_b24_8',
    84.414,
    97.108,
    'resmlpB_24_22k.pth',
  ),
)


def _variant(width, depth, patch_size=16, layer_scale=1e-5):
  return {
    'width': width,
    'depth': depth,
    'patch_size': patch_size,
    'layer_scale': layer_scale,
  }


RESMLP = Architecture(
  module=ResMLP,
  fields=FIELDS,
  stacked=('blocks',),
  before_blocks=('patch_embedding',),
  stem=('patch_embedding', 'kernel'),
  variants={
    'resmlp_s12': _variant(384, 12, layer_scale=0.1),
    'resmlp_s24': _variant(384, 24),
    'resmlp_s36': _variant(384, 36, layer_scale=1e-6),
    'resmlp_b24_8': _variant(768, 24, 8, 1e-6),
    'resmlp_b24_16': _variant(768, 24, 16, 1e-6),
  },
  state_dict=StateDictMap(
    matches=_matches,
    infer_fields=_infer_fields,
    from_timm=_TABLE.from_timm,
    to_timm=_TABLE.to_timm,
    image_size=_image_size,
    timm_model=fixed_tokens_timm.resmlp,
    timm_names={
      'resmlp_12_224': 'resmlp_s12',
      'resmlp_24_224': 'resmlp_s24',
      'resmlp_36_224': 'resmlp_s36',
      'resmlp_big_24_224': 'resmlp_b24_8',
    },
  ),
  resize=fixed_tokens.require_same_tokens,
  to_onnx=to_onnx,
  portable=PORTABLE,
  released=by_tag(
    Released(tag, variant, top1, top5, files=(file,))
    for tag, variant, top1, top5, file in _RELEASED
  ),
)
