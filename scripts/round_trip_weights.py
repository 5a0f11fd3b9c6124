"""Writes networks of full size as PyTorch files, and reads and converts them.

    pip install -r requirements-dev.txt torch
    python scripts/round_trip_weights.py [VARIANT ...]

Each variant gets random weights. `torch.save` writes them with timm's names
and, where those of the authors or of torchvision differ, with theirs. Each file
is loaded here, converted to safetensors and loaded again. Exits with 1 unless
all arrays are the same bits each time.
"""

import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from convmixer_jax.models import (  # noqa: E402
  MODELS,
  VARIANTS,
  create_model,
  model_config,
)
from convmixer_jax.pretrained import weight_files  # noqa: E402
from convmixer_jax.pretrained.load import load  # noqa: E402

# From timm's names to those of facebookresearch/deit and of torchvision.
FACEBOOK = (
  (r'^stem\.', 'patch_embed.'),
  (r'\.linear_tokens\.', '.attn.'),
  (r'\.mlp_channels\.', '.mlp.'),
  (r'\.ls([12])$', r'.gamma_\1'),
)
TORCHVISION = (
  (r'^cls_token$', 'class_token'),
  (r'^pos_embed$', 'encoder.pos_embedding'),
  (r'^patch_embed\.proj\.', 'conv_proj.'),
  (r'^norm\.', 'encoder.ln.'),
  (r'^head\.', 'heads.head.'),
  (r'^blocks\.(\d+)\.', r'encoder.layers.encoder_layer_\1.'),
  (r'\.norm([12])\.', r'.ln_\1.'),
  (r'\.attn\.qkv\.', '.self_attention.in_proj_'),
  (r'\.attn\.proj\.', '.self_attention.out_proj.'),
  (r'\.mlp\.fc([12])\.', r'.mlp.linear_\1.'),
)


def draw(variant: str) -> dict:
  """Returns random variables of a network."""
  fields = VARIANTS[variant]
  architecture = MODELS[fields['name']]
  size = architecture.published_input(variant)['image_size']
  model = create_model(model_config(**fields), 1000)
  shapes = architecture.variable_shapes(model, size)
  rng = np.random.default_rng(0)
  return {'batch_stats': {}} | jax.tree.map(
    lambda leaf: np.abs(rng.standard_normal(leaf.shape, np.float32)), shapes
  )


def rename(tensors: dict, names: tuple[tuple[str, str], ...]) -> dict:
  """Returns the tensors by other names, and alpha and beta as vectors."""
  renamed = {}
  for name, tensor in tensors.items():
    if name.endswith(('.alpha', '.beta')):
      tensor = tensor.reshape(-1)
    for pattern, replacement in names:
      name = re.sub(pattern, replacement, name)
    renamed[name] = tensor
  return renamed


def layouts(name: str, variant: str, tensors: dict) -> dict[str, dict]:
  """Returns what is written: the content of `torch.save` by layout."""
  found = {'timm': tensors}
  if name == 'resmlp' or variant.startswith('deit'):
    found['Facebook'] = {'model': rename(tensors, FACEBOOK)}
  if variant == 'vit_b16':
    found['torchvision'] = rename(tensors, TORCHVISION)
  if name == 'resnet':
    counters = {
      key.replace('running_var', 'num_batches_tracked'): torch.tensor(9)
      for key in tensors
      if key.endswith('running_var')
    }
    found['torchvision'] = tensors | counters
  return found


def is_same(trained, variables: dict) -> bool:
  """Returns whether a loaded network has exactly these arrays."""
  same = jax.tree.map(
    lambda a, b: a.dtype == b.dtype and np.array_equal(a, b),
    trained.variables,
    variables,
  )
  return jax.tree.all(same)


def main() -> int:
  """Prints a row for each file, and returns the exit status."""
  released = [
    weights.variant
    for architecture in MODELS.values()
    for weights in architecture.released.values()
  ]
  failures = 0
  print('| network | layout | bytes | loaded | converted |')
  print('|---' * 5 + '|')
  for variant in sys.argv[1:] or dict.fromkeys(released):
    name = VARIANTS[variant]['name']
    variables = draw(variant)
    to_timm = MODELS[name].state_dict.to_timm
    tensors = {
      key: torch.from_numpy(tensor)
      for key, tensor in to_timm(variables).items()
    }
    for layout, content in layouts(name, variant, tensors).items():
      with tempfile.TemporaryDirectory() as directory:
        paths = [f'{directory}/x.pth', f'{directory}/x.safetensors']
        torch.save(content, paths[0])
        size = pathlib.Path(paths[0]).stat().st_size
        loaded = load(paths[0], variant)
        same = [is_same(loaded, variables)]
        weight_files.save(loaded, paths[1])
        same.append(is_same(load(paths[1]), variables))
      failures += not all(same)
      shown = ' | '.join('same bits' if s else 'DIFFERS' for s in same)
      print(f'| {variant} | {layout} | {size:,} | {shown} |', flush=True)
  return min(failures, 1)


if __name__ == '__main__':
  sys.exit(main())
