"""How the layers of an isotropic network are initialised.

Each layer begins as in the network that it comes from:

  layer              with an MLP over tokens       else with a   else with a
                     and one over channels         channel MLP   pointwise layer
  stem               LeCun normal                  uniform       uniform
  channel mixer      LeCun normal                  N(0, 0.02)    uniform
  head               0                             N(0, 0.02)    uniform
                     (MLP-Mixer)                   (ViT, ResMLP) (ConvMixer)

  token mixer        convolution: uniform (ConvMixer); attention and linear:
                     N(0, 0.02) (ViT, ResMLP); MLP: LeCun normal (MLP-Mixer)

"uniform" is PyTorch's default, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), for the
biases too. All other biases begin with 0. The position embedding has N(0, 0.02)
and the class token N(0, 1e-6), as in ViT.
"""

from typing import NamedTuple

import flax.linen as nn

from convmixer_jax.models.isotropic.fields import Settings
from convmixer_jax.models.layers import uniform_init

NORMAL = nn.initializers.normal(0.02)
CLASS_TOKEN = nn.initializers.normal(1e-6)
_LECUN = nn.initializers.lecun_normal()
_ZEROS = nn.initializers.zeros


class Inits(NamedTuple):
  """Initialisers of a layer's kernel and bias."""

  kernel: nn.initializers.Initializer
  bias: nn.initializers.Initializer = _ZEROS


def _is_mlp_mixer(settings: Settings) -> bool:
  return settings.token_mixer == settings.channel_mixer == 'mlp'


def of_stem(settings: Settings, fan_in: int) -> Inits:
  """Returns those of one of the stem's convolutions, `[k, k, C, width]`."""
  if _is_mlp_mixer(settings):
    return Inits(_LECUN)
  return Inits(uniform_init(fan_in), uniform_init(fan_in))


def of_token_mixer(settings: Settings) -> Inits:
  """Returns those of a token mixer; `DepthwiseConv` has its own."""
  return Inits(_LECUN if settings.token_mixer == 'mlp' else NORMAL)


def of_channel_mlp(settings: Settings) -> Inits:
  """Returns those of an MLP in each token; `PointwiseConv` has its own."""
  return Inits(_LECUN if _is_mlp_mixer(settings) else NORMAL)


def of_head(settings: Settings) -> Inits:
  """Returns those of the dense layer that gives the logits."""
  if _is_mlp_mixer(settings):
    return Inits(_ZEROS)
  if settings.channel_mixer == 'mlp':
    return Inits(NORMAL)
  return Inits(uniform_init(settings.width), uniform_init(settings.width))
