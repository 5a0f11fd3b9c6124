"""ResNet with bottleneck blocks (arXiv 1512.03385): 50, 101 and 152 layers."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from convmixer_jax.models.architecture import Architecture, StateDictMap
from convmixer_jax.models.released_resnet import RESNET152
from convmixer_jax.models.resnet import state_dict
from convmixer_jax.models.resnet.fields import FIELDS, VARIANTS
from convmixer_jax.models.resnet.folding import make_inference
from convmixer_jax.models.resnet.module import (
  STAGES,
  ResNet,
  equal_blocks,
  first_block,
)
from convmixer_jax.models.resnet.onnx import to_onnx


def _first_kernels(params: Mapping[str, Any]) -> dict[str, jax.Array]:
  """Returns the kernels of the first convolution, `[64, 7, 7, C]`."""
  return {'conv1': jnp.moveaxis(params['conv1']['kernel'], -1, 0)}


RESNET = Architecture(
  module=ResNet,
  fields=FIELDS,
  stacked=tuple(map(equal_blocks, STAGES)),
  blocks=tuple(
    name_of(stage)
    for stage in STAGES
    for name_of in (first_block, equal_blocks)
  ),
  before_blocks=('conv1', 'bn1'),
  stem=('conv1', 'kernel'),
  variants=VARIANTS,
  state_dict=StateDictMap(
    matches=state_dict.TABLE.matches,
    infer_fields=state_dict.infer_fields,
    from_timm=state_dict.TABLE.from_timm,
    to_timm=state_dict.TABLE.to_timm,
    timm_names={name: name for name in VARIANTS},
    timm_model=state_dict.timm_model,
  ),
  inference=make_inference,
  pictures=_first_kernels,
  to_onnx=to_onnx,
  released=RESNET152,
  portable={'cpu': {'backend': 'xla'}, 'default': {'backend': 'xla'}},
)

__all__ = ['RESNET', 'ResNet']
