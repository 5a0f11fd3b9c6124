"""The isotropic family: stem, mixers, norms and residuals are fields."""

from collections.abc import Callable
from typing import Any

import jax

from convmixer_jax.models.architecture import Architecture, plain_inference
from convmixer_jax.models.convmixer.folding import (
  make_inference as make_convmixer_inference,
)
from convmixer_jax.models.isotropic.corners import (
  CORNERS,
  VARIANTS,
  as_convmixer,
  from_network,
  to_convmixer,
)
from convmixer_jax.models.isotropic.fields import FIELDS
from convmixer_jax.models.isotropic.network import Isotropic, resize


def _make_inference(
  model: Isotropic,
  variables: Any,
  mean: jax.Array,
  std: jax.Array,
  *,
  pack_weights: bool = False,
) -> Callable[[jax.Array], jax.Array]:
  """Returns a ConvMixer's folded form if the network is one."""
  convmixer = as_convmixer(model)
  if convmixer is None:
    return plain_inference(model, variables, mean, std)
  return make_convmixer_inference(
    convmixer, to_convmixer(variables), mean, std, pack_weights=pack_weights
  )


ISOTROPIC = Architecture(
  module=Isotropic,
  fields=FIELDS,
  variants=VARIANTS,
  stacked=('blocks',),
  before_blocks=(
    'patch_embedding',
    'stem_convolutions',
    'stem_norm',
    'class_token',
    'positions',
  ),
  stem=('patch_embedding', 'kernel'),
  inference=_make_inference,
  resize=resize,
  # As of ConvMixers.
  portable={'cpu': {'depthwise': 'shift'}, 'default': {'depthwise': 'xla'}},
)

__all__ = ['CORNERS', 'ISOTROPIC', 'VARIANTS', 'Isotropic', 'from_network']
