"""Names and axes of a ResNet's arrays in files: timm's and torchvision's.

in files   conv1.weight, layer1.0.conv1.weight, layer1.0.downsample.1.bias,
           layer1.1.bn1.running_mean, ..., fc.weight
ours       conv1/kernel, stage1_block1/conv1/kernel,
           stage1_block1/downsample_bn/bias, stage1_blocks/bn1/mean [depth, .]
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from convmixer_jax.config import ImageSize
from convmixer_jax.models.resnet.fields import VARIANTS
from convmixer_jax.models.resnet.module import (
  STAGES,
  ResNet,
  equal_blocks,
  first_block,
)
from convmixer_jax.models.shapes import variable_shapes
from convmixer_jax.models.state_dict import (
  Entry,
  Table,
  batch_norm,
  clean,
  count_blocks,
  dense,
  size,
)
from convmixer_jax.models.timm_model import TimmModel


def _block(module: str, name: str, first: int = 0) -> Iterator[Entry]:
  """Yields the entries of what all blocks have, or of a stack of them."""
  for number in (1, 2, 3):
    conv, norm = f'conv{number}', f'bn{number}'
    yield _kernel((module, conv), f'{name}.{conv}', first)
    yield from batch_norm((module, norm), f'{name}.{norm}', first)


def _kernel(path: tuple[str, ...], name: str, first: int = 0) -> Entry:
  return Entry(('params', *path, 'kernel'), f'{name}.weight', 'conv', first)


def _entries() -> Iterator[Entry]:
  yield _kernel(('conv1',), 'conv1')
  yield from batch_norm(('bn1',), 'bn1')
  for stage in STAGES:
    module, name = first_block(stage), f'layer{stage}.0'
    yield from _block(module, name)
    yield _kernel((module, 'downsample'), f'{name}.downsample.0')
    yield from batch_norm((module, 'downsample_bn'), f'{name}.downsample.1')
    yield from _block(equal_blocks(stage), f'layer{stage}.I', first=1)
  yield from dense(('head',), 'fc')


TABLE = Table(list(_entries()), 'ResNet of bottleneck blocks')


def infer_fields(
  tensors: Mapping[str, np.ndarray], source: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """See `StateDictMap.infer_fields`; all fields follow from the tensors."""
  tensors = clean(tensors)
  fields: dict[str, Any] = {
    'depths': tuple(
      max(count_blocks(tensors, f'layer{stage}.I.conv1.weight'), 1)
      for stage in STAGES
    ),
    'widths': tuple(
      max(size(tensors, f'layer{stage}.0.conv1.weight', 0), 1)
      for stage in STAGES
    ),
    'num_classes': max(size(tensors, 'fc.weight', 0), 1),
  }
  channels = max(size(tensors, 'conv1.weight', 1), 1)
  shapes = variable_shapes(ResNet(**fields), 32, channels)
  return fields, TABLE.check(tensors, shapes, source, channels)


def timm_model(
  fields: Mapping[str, Any],
  num_classes: int,
  channels: int,
  image_size: ImageSize,
) -> TimmModel:
  """Returns how timm creates a ResNet, of any depths and widths."""
  del image_size  # it takes any
  arguments = {
    'layers': list(fields['depths']),
    'channels': list(fields['widths']),
    'in_chans': channels,
  }
  name = next(
    (name for name, variant in VARIANTS.items() if variant == dict(fields)),
    None,
  )
  if name:
    arguments = {} if channels == 3 else {'in_chans': channels}
  name = name or 'resnet50'
  listed = ''.join(f', {key}={value}' for key, value in arguments.items())
  return TimmModel(
    'import timm',
    f"timm.create_model('{name}', num_classes={num_classes}{listed})",
    first_conv='conv1',
    classifier='fc',
    architecture=name,
    model_args=arguments,
  )
