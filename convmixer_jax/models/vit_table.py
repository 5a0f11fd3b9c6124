"""Names and axes of a ViT's arrays in files, and what follows from them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from convmixer_jax.models.state_dict import Entry, Table, dense, norm, size

_ENTRIES = [
  Entry(('params', 'class_token'), 'cls_token'),
  Entry(('params', 'position_embedding'), 'pos_embed'),
  *dense(('patch_embedding', 'projection'), 'patch_embed.proj', 'patches'),
  *norm(('blocks', 'attention_norm'), 'blocks.I.norm1'),
  *dense(('blocks', 'attention', 'qkv'), 'blocks.I.attn.qkv'),
  *dense(('blocks', 'attention', 'projection'), 'blocks.I.attn.proj'),
  *norm(('blocks', 'mlp_norm'), 'blocks.I.norm2'),
  *dense(('blocks', 'mlp', 'expand'), 'blocks.I.mlp.fc1'),
  *dense(('blocks', 'mlp', 'contract'), 'blocks.I.mlp.fc2'),
  *norm(('norm',), 'norm'),
]
TABLE = Table([*_ENTRIES, *dense(('head',), 'head')], 'ViT')
DISTILLED_TABLE = Table(
  [
    *_ENTRIES,
    Entry(('params', 'distillation_token'), 'dist_token'),
    *dense(('head', 'class_token'), 'head'),
    *dense(('head', 'distillation_token'), 'head_dist'),
  ],
  'distilled ViT',
)


def image_size(
  fields: Mapping[str, Any], tensors: Mapping[str, np.ndarray], others: int = 1
) -> int:
  """Returns that of the position embedding, if it is a square grid.

  Args:
    fields: of the network.
    tensors: by timm's names.
    others: tokens that are not patches.
  """
  count = max(size(tensors, 'pos_embed', 1) - others, 1)
  side = max(round(count**0.5), 1)
  return side * fields['patch_size']


def assume(fields: Mapping[str, Any]) -> dict[str, int]:
  """Returns the heads: all of timm's ViTs have 64 channels for each."""
  width = fields['width']
  return {} if width % 64 else {'heads': width // 64}


def grid_of(
  native_size: tuple[int, int] | None, patch_size: int
) -> tuple[int, int] | None:
  """Returns rows and columns of the patches of an image; None for None."""
  if native_size is None:
    return None
  return native_size[0] // patch_size, native_size[1] // patch_size
