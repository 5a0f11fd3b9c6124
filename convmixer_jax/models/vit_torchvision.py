"""torchvision's names of a ViT's tensors, which are of the same shapes."""

import re
from collections.abc import Mapping

import numpy as np

_NAMES = (
  ('class_token', 'cls_token'),
  ('encoder.pos_embedding', 'pos_embed'),
  ('conv_proj.', 'patch_embed.proj.'),
  ('encoder.ln.', 'norm.'),
  ('heads.head.', 'head.'),
)
_BLOCK = re.compile(r'encoder\.layers\.encoder_layer_(\d+)\.')
_IN_BLOCK = (
  ('ln_1.', 'norm1.'),
  ('ln_2.', 'norm2.'),
  ('self_attention.in_proj_', 'attn.qkv.'),
  ('self_attention.out_proj.', 'attn.proj.'),
  # Released files have the older of both names.
  ('mlp.linear_1.', 'mlp.fc1.'),
  ('mlp.linear_2.', 'mlp.fc2.'),
  ('mlp.0.', 'mlp.fc1.'),
  ('mlp.3.', 'mlp.fc2.'),
)


def timm_name(name: str) -> str:
  """Returns timm's name of a tensor; others than torchvision's as they are."""
  block = _BLOCK.match(name)
  if block is None:
    return _replace(name, _NAMES)
  return f'blocks.{block[1]}.' + _replace(name[block.end() :], _IN_BLOCK)


def rename(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns tensors by timm's names.

  Args:
    tensors: by timm's names or torchvision's.
  """
  return {timm_name(name): tensor for name, tensor in tensors.items()}


def _replace(name, names):
  for theirs, timm in names:
    if name == theirs or (theirs[-1] in '._' and name.startswith(theirs)):
      return timm + name[len(theirs) :]
  return name
