"""The distilled DeiT (arXiv 2012.12877), in Flax: a ViT with two heads.

A second token after the class token, with a head of its own. In evaluation the
logits are the mean of both heads'.

In the paper the second head learns what a teacher predicts, which is not
implemented: here both learn the labels, by the loss of their mean. So released
weights are evaluated as published, and fine-tuned with both heads.
"""

import functools
from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from convmixer_jax.models.architecture import Architecture, StateDictMap
from convmixer_jax.models.layers import Dense
from convmixer_jax.models.vit import BASE, INIT, VIT, ViT, infer_fields
from convmixer_jax.models.vit_released import DISTILLED
from convmixer_jax.models.vit_table import DISTILLED_TABLE, assume, image_size
from convmixer_jax.models.vit_timm import distilled_timm_model


class Heads(nn.Module):
  """A dense layer for each token; the mean of their logits."""

  names: tuple[str, ...]
  num_classes: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps features `[B, T, C]` of T tokens to logits `[B, K]`, float32."""
    logits = [
      Dense(self.num_classes, INIT, name=name)(x[:, number])
      for number, name in enumerate(self.names)
    ]
    return jnp.mean(jnp.stack(logits), axis=0)


class DistilledViT(ViT):
  """A ViT with a distillation token; see `ViT`.

  What the head sees, `features`, is the mean of both tokens.
  """

  tokens: ClassVar[Mapping[str, nn.initializers.Initializer]] = {
    **ViT.tokens,
    'distillation_token': INIT,
  }

  def classify(self, x: jax.Array, norm: nn.Module) -> jax.Array:
    """See `ViT.classify`."""
    features = norm(x[:, : len(self.tokens)])
    self.sow('intermediates', 'features', jnp.mean(features, axis=1))
    return Heads(tuple(self.tokens), self.num_classes, name='head')(features)


_OTHERS = len(DistilledViT.tokens)

DISTILLED_VIT: Architecture = VIT._replace(
  module=DistilledViT,
  before_blocks=(*DistilledViT.tokens, 'position_embedding', 'patch_embedding'),
  variants={'deit_b_distilled': BASE},
  state_dict=StateDictMap(
    matches=DISTILLED_TABLE.matches,
    infer_fields=functools.partial(
      infer_fields, module=DistilledViT, table=DISTILLED_TABLE
    ),
    from_timm=DISTILLED_TABLE.from_timm,
    to_timm=DISTILLED_TABLE.to_timm,
    assume=assume,
    image_size=functools.partial(image_size, others=_OTHERS),
    timm_names={
      'deit_base_distilled_patch16_224': 'deit_b_distilled',
      'deit_base_distilled_patch16_384': 'deit_b_distilled',
    },
    timm_model=distilled_timm_model,
  ),
  released=DISTILLED,
)
