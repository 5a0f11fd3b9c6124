"""Known networks as settings of the isotropic family, and their weights in it.

With a corner's fields and a network's own sizes, the isotropic network computes
what that network does: the same logits and gradients, but for rounding. Drop
path differs: here it is linear over depth, as in ViT, while ResMLP and
MLP-Mixer have the same probability in all blocks.
"""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from convmixer_jax.models.convmixer import CONVMIXER, ConvMixer
from convmixer_jax.models.mixer import MIXER
from convmixer_jax.models.resmlp import RESMLP
from convmixer_jax.models.vit import VIT

_PRE_NORM: dict[str, Any] = {
  'stem': 'patches',
  'stem_activation': False,
  'token_activation': False,
  'channel_mixer': 'mlp',
  'mlp_ratio': 4,
  'activation': 'gelu',
  'norm': 'layer',
  'norm_place': 'before',
  'residual': 'both',
  'layer_scale': 0.0,
  'position_embedding': False,
  'pooling': 'mean',
}

# By name, all fields that distinguish a network from others of its sizes.
CORNERS: dict[str, dict[str, Any]] = {
  'convmixer': {
    'stem': 'patches',
    'stem_activation': True,
    'token_mixer': 'convolution',
    'token_activation': True,
    'channel_mixer': 'pointwise',
    'norm': 'batch',
    'norm_place': 'after',
    'residual': 'token',
    'layer_scale': 0.0,
    'position_embedding': False,
    'pooling': 'mean',
  },
  'vit': _PRE_NORM
  | {
    'token_mixer': 'attention',
    'position_embedding': True,
    'pooling': 'class_token',
  },
  'resmlp': _PRE_NORM
  | {'token_mixer': 'linear', 'norm': 'affine', 'layer_scale': 1e-5},
  'mixer': _PRE_NORM | {'token_mixer': 'mlp'},
  'poolformer': _PRE_NORM
  | {
    'token_mixer': 'pool',
    'kernel_size': 3,
    'norm': 'group',
    'layer_scale': 1e-5,
  },
}

# Published networks. PoolFormers have four stages, so none of them is here:
# that is the block of one, in the sizes of ResMLP-S12.
VARIANTS: dict[str, dict[str, Any]] = {
  'isotropic_convmixer': {
    **CORNERS['convmixer'],
    **CONVMIXER.variants['768_32'],
  },
  'isotropic_vit': {**CORNERS['vit'], **VIT.variants['vit_b16']},
  'isotropic_resmlp': {**CORNERS['resmlp'], **RESMLP.variants['resmlp_s12']},
  'isotropic_mixer': {**CORNERS['mixer'], **MIXER.variants['mixer_b16']},
  'isotropic_poolformer': CORNERS['poolformer']
  | {'width': 384, 'depth': 12, 'patch_size': 16},
}

# Names of the networks' modules and parameters, by those they have here.
_OURS = {
  r'patch_embedding/projection/': 'patch_embedding/',
  r'patch_bn/': 'stem_norm/',
  r'position_embedding$': 'positions',
  r'norm/': 'final_norm/',
  r'blocks/(depthwise_bn|attention_norm|token_affine)/': 'blocks/token_norm/',
  r'blocks/(depthwise|attention)/': 'blocks/token_mixer/',
  r'blocks/(pointwise_bn|mlp_norm|mlp_affine)/': 'blocks/channel_norm/',
  r'blocks/(pointwise|mlp)/': 'blocks/channel_mixer/',
  r'blocks/mlp_scale$': 'blocks/channel_scale',
}


def from_network(
  variables: Mapping[str, Any], patch_size: int
) -> dict[str, Any]:
  """Brings variables of a corner's network to the names and axes here.

  Args:
    variables: `params` and `batch_stats` of a ConvMixer, ViT, ResMLP or
      MLP-Mixer, or others with their structure, such as gradients.
    patch_size: of the network.

  Returns:
    Those of the isotropic network with the fields in `CORNERS`.
  """
  arrays = {}
  for path, array in flatten_dict(dict(variables)).items():
    collection, *names = path
    name = _our_name('/'.join(names))
    if name == 'patch_embedding/kernel':
      shape = (patch_size, patch_size, -1, array.shape[-1])
      array = array.reshape(shape)
    elif name == 'class_token':
      array = array.reshape(1, 1, 1, -1)
    arrays[(collection, *name.split('/'))] = array
  return unflatten_dict(arrays)


def _our_name(name):
  for pattern, ours in _OURS.items():
    if re.match(pattern, name):
      return re.sub(f'^{pattern}', ours, name)
  return name


def as_convmixer(model: nn.Module) -> ConvMixer | None:
  """Returns the ConvMixer that an isotropic network is; None: it is not one.

  The names of its variables differ; see `to_convmixer`.
  """
  corner = CORNERS['convmixer'] | {
    'stem': 'patches' if model.patch_size > 1 else model.stem
  }
  if any(getattr(model, name) != value for name, value in corner.items()):
    return None
  fields = {name: getattr(model, name) for name in CONVMIXER.fields}
  return ConvMixer(
    **fields,
    num_classes=model.num_classes,
    dtype=model.dtype,
    gather=model.gather,
  )


def to_convmixer(variables: Mapping[str, Any]) -> dict[str, Any]:
  """Brings variables of `as_convmixer`'s network to a ConvMixer's names."""
  theirs = {
    'stem_norm': 'patch_bn',
    'token_mixer': 'depthwise',
    'token_norm': 'depthwise_bn',
    'channel_mixer': 'pointwise',
    'channel_norm': 'pointwise_bn',
  }
  return unflatten_dict(
    {
      tuple(theirs.get(name, name) for name in path): array
      for path, array in flatten_dict(dict(variables)).items()
    }
  )
