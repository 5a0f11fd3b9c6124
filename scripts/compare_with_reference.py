"""Compares networks with timm's outputs for the same weights, at full size.

    python make_reference.py --out=DIR                # with timm and torch
    python scripts/compare_with_reference.py --reference=DIR

DIR has a folder for each network, or is one, with

  model.safetensors   random weights by timm's names
  HxW.npz             for images of a size: `image` [B, C, H, W]; `logits`,
                      `logits_f64`, `pre_logits` (what the head reads) and
                      `features` (the last grid or tokens), all of timm
  train_HxW.npz       of networks with BatchNorm: `image`, `logits` in training
                      mode, and `after_NAME`, the running statistics after it
  meta.json           `parameters`, their number

Prints the largest absolute differences, in Markdown; those of the last grid are
relative to its largest value, which is far from 1 in some networks. Exits with
1 if one is larger than --tolerance, if the number of parameters differs, or if
the tensors do not come back bit for bit; counters of batches are not kept.
"""

import argparse
import functools
import importlib.metadata
import json
import pathlib
import platform
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import safetensors.numpy  # noqa: E402

from convmixer_jax.benchmarks import machine  # noqa: E402
from convmixer_jax.models import find_architecture  # noqa: E402
from convmixer_jax.models.features import (  # noqa: E402
  Features,
  apply_with_features,
)
from convmixer_jax.pretrained.load import load  # noqa: E402
from convmixer_jax.pretrained.trained_model import TrainedModel  # noqa: E402

COUNTER = 'num_batches_tracked'
TRAINING = 'train_'
COLUMNS = (
  'logits',
  'logits, timm in float64',
  'input of the head',
  'last grid, relative',
  'running statistics',
)


class Row(NamedTuple):
  """The largest differences of a network in one file of outputs.

  Attributes:
    network: name of its folder.
    outputs: name of the file, without its ending.
    differences: some of `COLUMNS`.
  """

  network: str
  outputs: str
  differences: dict[str, float]


def main() -> int:
  """Prints the table, and returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--reference', required=True, type=pathlib.Path)
  parser.add_argument('--tolerance', type=float, default=1e-5)
  parser.add_argument(
    '--model', help='what weights do not contain, as for load, such as heads=3'
  )
  arguments = parser.parse_args()
  folders = find_folders(arguments.reference)
  if not folders:
    parser.error(f'no model.safetensors in or below {arguments.reference}')
  print(describe_machine(), end='\n\n')
  print('| network | outputs |', ' | '.join(COLUMNS), '|')
  print('|---' * (2 + len(COLUMNS)) + '|')
  failures = []
  for folder in folders:
    trained = load(folder / 'model.safetensors', arguments.model)
    failures += check_weights(trained, folder)
    for path in sorted(folder.glob('*.npz')):
      row = compare(trained, path)
      shown = (
        f'{row.differences[name]:.1e}' if name in row.differences else ''
        for name in COLUMNS
      )
      print('|', row.network, '|', row.outputs, '|', ' | '.join(shown), '|')
      sys.stdout.flush()
      # A NaN is not below the tolerance.
      if not max(row.differences.values()) <= arguments.tolerance:
        failures.append(f'{row.network} {row.outputs}: beyond the tolerance')
  print()
  print(*(failures or ['All are within the tolerance; all weights come back.']))
  return int(bool(failures))


def find_folders(reference: pathlib.Path) -> list[pathlib.Path]:
  """Returns the folders with weights: this one, or those in it."""
  candidates = [reference, *sorted(reference.iterdir())]
  return [path for path in candidates if (path / 'model.safetensors').exists()]


def describe_machine() -> str:
  """Returns versions and processor in a line."""
  versions = [f'{n} {importlib.metadata.version(n)}' for n in ('jax', 'flax')]
  device = jax.devices()[0]
  host = machine.describe_machine()
  return ', '.join(
    [
      f'Python {platform.python_version()}',
      *versions,
      f'{device.platform} ({device.device_kind})',
      f'{host["cores"]} cores of {host["processor"]}, {platform.machine()}',
    ]
  )


def check_weights(trained: TrainedModel, folder: pathlib.Path) -> list[str]:
  """Returns what differs in the number of parameters, or after out and back."""
  found = []
  leaves = jax.tree.leaves(trained.variables['params'])
  count = sum(leaf.size for leaf in leaves)
  meta = json.loads((folder / 'meta.json').read_text())
  if count != meta['parameters']:
    found.append(
      f'{folder.name}: {count:,} parameters, not {meta["parameters"]:,}'
    )
  tensors = safetensors.numpy.load_file(folder / 'model.safetensors')
  state_dict = find_architecture(trained.network).state_dict
  back = state_dict.to_timm(trained.variables)
  if back.keys() != tensors.keys():
    found.append(f'{folder.name}: other names come back')
  changed = [
    name
    for name, tensor in tensors.items()
    if not name.endswith(COUNTER) and not _is_same(back.get(name), tensor)
  ]
  if changed:
    found.append(f'{folder.name}: changed come back: {", ".join(changed)}')
  return found


def _is_same(a, b):
  return a is not None and a.dtype == b.dtype and np.array_equal(a, b)


def compare(trained: TrainedModel, path: pathlib.Path) -> Row:
  """Returns the largest differences from the outputs in a file."""
  with np.load(path) as file:
    expected = dict(file)
  is_training = path.stem.startswith(TRAINING)
  found = (compare_training if is_training else compare_evaluation)(
    trained, expected
  )
  return Row(path.parent.name, path.stem, found)


def compare_evaluation(
  trained: TrainedModel, expected: dict[str, np.ndarray]
) -> dict[str, float]:
  """Returns the differences in evaluation, by column."""
  images = expected['image'].transpose(0, 2, 3, 1)
  features = _evaluate(trained.model, trained.variables, images)
  grid = as_grid(expected['features'], features)
  found = {
    COLUMNS[0]: _difference(features.logits, expected['logits']),
    COLUMNS[2]: _difference(features.head_input, expected['pre_logits']),
    COLUMNS[3]: _difference(features.grid, grid) / float(np.abs(grid).max()),
  }
  if 'logits_f64' in expected:
    found[COLUMNS[1]] = _difference(features.logits, expected['logits_f64'])
  return found


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(model: nn.Module, variables, images) -> Features:
  return apply_with_features(model, variables, images)


def as_grid(array: np.ndarray, features: Features) -> np.ndarray:
  """Returns timm's last grid or tokens as `[B, h, w, C]`.

  Args:
    array: `[B, C, h, w]`, or tokens `[B, N, C]`, the last of which are those of
      the grid.
    features: ours.
  """
  if array.ndim == 4:
    return array.transpose(0, 2, 3, 1)
  _, rows, columns, width = features.grid.shape
  return array[:, -rows * columns :].reshape(-1, rows, columns, width)


def compare_training(
  trained: TrainedModel, expected: dict[str, np.ndarray]
) -> dict[str, float]:
  """Returns the differences in training mode, by column."""
  images = expected['image'].transpose(0, 2, 3, 1)
  logits, updated = jax.jit(
    lambda variables, images: trained.model.apply(
      variables, images, train=True, mutable=['batch_stats']
    )
  )(trained.variables, images)
  state_dict = find_architecture(trained.network).state_dict
  after = state_dict.to_timm({**trained.variables, **updated})
  statistics = [
    _difference(after[name.removeprefix('after_')], array)
    for name, array in expected.items()
    if name.startswith('after_')
  ]
  return {
    COLUMNS[0]: _difference(logits, expected['logits']),
    COLUMNS[4]: max(statistics),
  }


def _difference(ours, theirs):
  return float(np.abs(np.float64(ours) - np.float64(theirs)).max())


if __name__ == '__main__':
  sys.exit(main())
