"""timm's ConvMixers: three with names, and others by their class."""

from collections.abc import Mapping
from typing import Any

from convmixer_jax.config import ImageSize
from convmixer_jax.models.convmixer.variants import VARIANTS
from convmixer_jax.models.timm_model import TimmModel

NAMES = {
  'convmixer_1536_20': '1536_20',
  'convmixer_768_32': '768_32',
  'convmixer_1024_20_ks9_p14': '1024_20',
}
_ACTIVATIONS = {'gelu': 'GELU', 'relu': 'ReLU'}


def timm_model(
  fields: Mapping[str, Any],
  num_classes: int,
  channels: int,
  image_size: ImageSize,
) -> TimmModel:
  """Returns how timm creates a ConvMixer; its names have fixed fields."""
  del image_size  # it takes any
  architecture = next(
    (name for name, key in NAMES.items() if VARIANTS[key] == dict(fields)), None
  )
  return TimmModel(
    'import torch\nfrom timm.models.convmixer import ConvMixer',
    f'ConvMixer(dim={fields["width"]}, depth={fields["depth"]}, '
    f'kernel_size={fields["kernel_size"]}, patch_size={fields["patch_size"]}, '
    f'in_chans={channels}, num_classes={num_classes}, '
    f'act_layer=torch.nn.{_ACTIVATIONS[fields["activation"]]})',
    first_conv='stem.0',
    architecture=architecture,
    model_args={} if channels == 3 else {'in_chans': channels},
  )
