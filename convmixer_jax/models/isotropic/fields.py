"""The fields of an isotropic network; the defaults are a small ConvMixer's."""

import dataclasses
from typing import Any

import flax.linen as nn

from convmixer_jax import kernels
from convmixer_jax.models.fields import Field

STEMS = ('patches', 'overlapping', 'convolutions', 'pixels')
TOKEN_MIXERS = (
  'convolution',
  'attention',
  'linear',
  'mlp',
  'pool',
  'random',
  'none',
)
# Their layers fit one number of tokens only.
FIXED_TOKENS = ('linear', 'mlp', 'random')

FIELDS = {
  'width': Field(64, 'channels of a token', minimum=1),
  'depth': Field(4, 'number of blocks', minimum=1),
  'patch_size': Field(
    2, 'pixels from one token to the next, for every stem', minimum=1
  ),
  'stem': Field(
    'patches',
    'from pixels to tokens: patches side by side; overlapping ones of '
    '2 patch_size - 1 pixels; 3 x 3 convolutions of stride 2; or single pixels',
    choices=STEMS,
  ),
  'stem_activation': Field(
    True, 'activation and normalisation after the stem, as in ConvMixer'
  ),
  'token_mixer': Field(
    'convolution',
    'what mixes tokens: a depthwise convolution; self-attention; one linear '
    'map over the tokens; an MLP over them; their average minus the token; a '
    'frozen random map; or nothing',
    choices=TOKEN_MIXERS,
  ),
  'kernel_size': Field(
    5, "side of convolution's kernels and of pool's windows, in tokens", 1
  ),
  'heads': Field(
    4, 'attention heads; with attention they divide the width', minimum=1
  ),
  'token_hidden': Field(32, 'hidden units of an MLP over the tokens', 1),
  'token_activation': Field(
    True, 'activation after the token mixer, as in ConvMixer'
  ),
  'channel_mixer': Field(
    'pointwise',
    'what mixes the channels of a token: a dense layer with an activation '
    'after it, or an MLP',
    choices=('pointwise', 'mlp'),
  ),
  'mlp_ratio': Field(
    4, "an MLP's hidden channels for each of a token's", minimum=1
  ),
  'activation': Field(
    'gelu',
    'activation; gelu is the exact one',
    choices=tuple(kernels.ACTIVATIONS),
  ),
  'norm': Field(
    'batch',
    'normalisation: BatchNorm; LayerNorm; GroupNorm of one group; factor and '
    'offset without statistics; or none',
    choices=('batch', 'layer', 'group', 'affine', 'none'),
  ),
  'norm_place': Field(
    'after',
    'where a mixer is normalised: after it and its activation; or before it, '
    'and once more before the head',
    choices=('after', 'before'),
  ),
  'residual': Field(
    'token',
    'what a residual connection goes around: the token mixer; both mixers; or '
    'neither',
    choices=('token', 'both', 'none'),
  ),
  'layer_scale': Field(
    0.0,
    'initial value of factors of the branches, one for each channel; 0: no '
    'such factors',
    minimum=0,
  ),
  'position_embedding': Field(
    False, 'adds a trained vector to each token, by its place'
  ),
  'pooling': Field(
    'mean',
    'what the head sees: the mean of the tokens, or a class token',
    choices=('mean', 'class_token'),
  ),
  'drop_path': Field(
    0.0,
    'probability of dropping a branch of the last block; linear over depth',
    minimum=0,
    below=1,
    role='training',
  ),
  'bn_group_size': Field(
    0,
    'images that share BatchNorm statistics; 0 is the whole batch',
    minimum=0,
    role='training',
    groups='BatchNorm groups',
  ),
  'depthwise': Field(
    None,
    'backend of the depthwise convolutions; those that have norms and '
    "products compute these too. None: the platform's default",
    choices=kernels.BACKENDS,
    role='compute',
    cpu_only=('cpu',),
    gpu_only=('cuda',),
  ),
  'scan': Field(False, 'compile one block and loop over it', role='compute'),
  'remat': Field(False, 'recompute activations to save memory', role='compute'),
}


@dataclasses.dataclass(frozen=True)
class Settings:
  """The fields that the layers of a network need; see `FIELDS`."""

  width: int
  patch_size: int
  stem: str
  stem_activation: bool
  token_mixer: str
  kernel_size: int
  heads: int
  token_hidden: int
  token_activation: bool
  channel_mixer: str
  mlp_ratio: int
  activation: str
  norm: str
  norm_place: str
  residual: str
  layer_scale: float
  pooling: str
  bn_group_size: int
  depthwise: str | None
  dtype: Any


def settings_of(network: nn.Module) -> Settings:
  """Returns the settings that are attributes of a network."""
  names = [field.name for field in dataclasses.fields(Settings)]
  return Settings(**{name: getattr(network, name) for name in names})


def has_class_token(network: Any) -> bool:
  """Whether a class token comes before the tokens of the image."""
  pooling: str = network.pooling
  return pooling == 'class_token'
