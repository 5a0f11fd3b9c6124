"""ConvMixer ("Patches Are All You Need?", arXiv 2201.09792)."""

from typing import Any

from convmixer_jax.models.architecture import (
  Architecture,
  StateDictMap,
)
from convmixer_jax.models.convmixer import state_dict
from convmixer_jax.models.convmixer.fields import FIELDS
from convmixer_jax.models.convmixer.folding import make_inference
from convmixer_jax.models.convmixer.module import ConvMixer
from convmixer_jax.models.convmixer.onnx import to_onnx
from convmixer_jax.models.convmixer.pictures import select_kernels
from convmixer_jax.models.convmixer.timm_model import NAMES, timm_model
from convmixer_jax.models.convmixer.variants import VARIANTS
from convmixer_jax.models.released import Released, by_tag

_INPUT: dict[str, Any] = {'eval_crop_fraction': 0.96}
_MIT: dict[str, Any] = {'license_id': 'mit'}

CONVMIXER = Architecture(
  module=ConvMixer,
  fields=FIELDS,
  stacked=('blocks',),
  before_blocks=('patch_embedding', 'patch_bn'),
  stem=('patch_embedding', 'kernel'),
  variants=VARIANTS,
  state_dict=StateDictMap(
    matches=state_dict.matches,
    infer_fields=state_dict.infer_fields,
    from_timm=state_dict.from_timm,
    to_timm=state_dict.to_timm,
    assume=state_dict.assume,
    timm_names=NAMES,
    timm_model=timm_model,
  ),
  inference=make_inference,
  pictures=select_kernels,
  to_onnx=to_onnx,
  # The C++ kernels are not part of JAX. On CPUs XLA's own convolution is
  # several times slower than shifted multiply-adds.
  portable={'cpu': {'depthwise': 'shift'}, 'default': {'depthwise': 'xla'}},
  default_input=_INPUT,
  released=by_tag(
    [
      Released(
        'convmixer_1536_20.in1k', '1536_20', 81.382, 95.618, **_INPUT, **_MIT
      ),
      Released(
        'convmixer_768_32.in1k', '768_32', 80.158, 95.070, **_INPUT, **_MIT
      ),
      Released(
        'convmixer_1024_20_ks9_p14.in1k',
        '1024_20',
        76.944,
        93.364,
        **_INPUT,
        **_MIT,
      ),
    ]
  ),
)

__all__ = ['CONVMIXER', 'ConvMixer']
