"""Compares the three released networks at full size with timm's.

    pip install -r requirements-dev.txt            # here
    pip install torch torchvision timm==1.0.31     # in another environment
    python scripts/compare_released_shapes.py --timm_python=timm-env/bin/python

timm creates them with random weights and statistics, and writes them in the
formats of the hub and of the authors. This compares logits and pooled features
at two image sizes, checks that both formats load the same arrays, that exported
weights load again unchanged, and that timm loads them.
"""

import argparse
import importlib.metadata
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import numpy as np  # noqa: E402

from convmixer_jax.pretrained import weight_files  # noqa: E402
from convmixer_jax.pretrained.load import load  # noqa: E402
from convmixer_jax.pretrained.trained_model import TrainedModel  # noqa: E402

SCRIPT = ROOT / 'tests' / 'fixtures' / 'make_weight_fixtures.py'
NETWORKS = {
  'convmixer_1536_20': '1536_20',
  'convmixer_768_32': '768_32',
  'convmixer_1024_20_ks9_p14': '1024_20',
}


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
  """Returns the maximum difference, relative to the maximum value."""
  return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def are_identical(a: TrainedModel, b: TrainedModel) -> bool:
  """Returns whether two networks are equal bit for bit."""
  same = jax.tree.map(np.array_equal, a.variables, b.variables)
  return a.fields == b.fields and jax.tree.all(same)


def compare(directory: pathlib.Path, name: str) -> None:
  """Prints the differences of one network from timm's, and exports it."""
  loaded = load(str(directory / name))
  model = loaded.model
  print(name, loaded.fields)
  apply = jax.jit(
    lambda images: model.apply(
      loaded.variables, images, train=False, mutable='intermediates'
    )
  )
  with np.load(directory / f'{name}.npz') as expected:
    for part in sorted(expected):
      if not part.startswith('logits_'):
        continue
      size = int(part.removeprefix('logits_'))
      pixels = expected['images'][:, :size, :size]
      logits, state = apply(pixels / np.float32(127.5) - 1)
      errors = {
        'logits': relative_error(logits, expected[part]),
        'features': relative_error(
          state['intermediates']['features'][0], expected[f'features_{size}']
        ),
      }
      shown = ', '.join(f'{name} {error:.1e}' for name, error in errors.items())
      print(f'  {size} x {size}: relative difference of {shown}')
      assert max(errors.values()) < 1e-4

  authors = load(str(directory / f'{name}.pth.tar'), NETWORKS[name])
  assert are_identical(loaded, authors)
  print("  the authors' .pth.tar: identical")
  path = str(directory / f'{name}.safetensors')
  weight_files.save(loaded, path)
  assert are_identical(loaded, load(path))
  print('  exported and loaded again: identical')


def main() -> None:
  """Runs the comparison in a temporary directory."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--timm_python', required=True)
  python = parser.parse_args().timm_python
  versions = [f'{n} {importlib.metadata.version(n)}' for n in ('jax', 'flax')]
  print(*versions, sep=', ')
  with tempfile.TemporaryDirectory() as directory:
    subprocess.run([python, SCRIPT, f'--full={directory}'], check=True)
    for name in NETWORKS:
      compare(pathlib.Path(directory), name)
      sys.stdout.flush()
    subprocess.run([python, SCRIPT, f'--check={directory}'], check=True)


if __name__ == '__main__':
  main()
