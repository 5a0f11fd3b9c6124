"""Compares the speed of decoding and augmentation on one core with timm's.

  python -m convmixer_jax benchmark input --folder=DIR \
    --timm_python=timm-env/bin/python

Both transform the same files in turns, so that other load on the machine
affects both; ratios are computed within a turn. Each produces uint8 images of
the ImageNet recipe: random resized crop, flip, RandAugment m9-mstd0.5-inc1.
"""

import pathlib
import platform
import statistics
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import ml_collections
import numpy as np

from convmixer_jax.benchmarks.machine import describe_machine
from convmixer_jax.benchmarks.timm_input import TimmInput
from convmixer_jax.data.augment import transforms
from convmixer_jax.data.builders import find_builder, has_array_record
from convmixer_jax.data.decode import decode_image
from convmixer_jax.data.image_files import find_in_folder
from convmixer_jax.errors import UserError

_PACKAGES = ('numpy', 'pillow', 'opencv-python-headless')
_JPEG = ('.jpg', '.jpeg', '.jpe', '.jfif')


def run(
  files: Sequence[bytes],
  *,
  timm_python: str | None = None,
  image_size: int = 224,
  rounds: int = 10,
  chunk: int = 100,
) -> dict[str, Any]:
  """Measures both in turns.

  Args:
    files: image files, at least one; repeated as often as needed.
    timm_python: a Python interpreter that can import timm, or None.
    image_size: height and width of the result, in pixels.
    rounds: number of turns of each.
    chunk: number of images of a turn.

  Returns:
    A dict for JSON with `machine`, `versions` and `settings`; `images_per_sec`
    (median, by processor time) and `milliseconds` per image of each stage;
    and `timm` with its `images_per_sec`, its `versions` and the `ratio`s by
    processor time and wall time (median, lowest, highest), or with the reason
    why it is `missing`.
  """
  settings = {'image_size': image_size, 'rounds': rounds, 'chunk': chunk}
  files = [files[i % len(files)] for i in range(max(chunk, len(files)))]
  worker = TimmInput(timm_python, files, image_size)
  ours, theirs, stages = [], [], []
  with worker:
    for turn in range(-1, rounds):  # the first turn fills caches
      start = max(turn, 0) * chunk % (len(files) - chunk + 1)
      part = slice(start, start + chunk)
      first = _measure(files[part], image_size, turn)
      second = worker.measure(part)
      if turn >= 0:
        ours.append(first['all'])
        theirs.append(second)
        stages.append({name: times['cpu'] for name, times in first.items()})
  return {
    'machine': describe_machine(),
    'versions': {
      'python': platform.python_version(),
      **{name: metadata.version(name) for name in _PACKAGES},
    },
    'settings': settings,
    'images_per_sec': _rate(ours, chunk),
    'milliseconds': _stage_times(stages, chunk),
    'timm': (
      {'missing': worker.missing}
      if worker.missing
      else _compare(ours, theirs, chunk, worker.versions)
    ),
  }


def _config(num_ops: int) -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    {
      'crop': 'random_resized',
      'crop_scale': (0.08, 1.0),
      'crop_ratio': (3 / 4, 4 / 3),
      'interpolation': 'random',
      'flip': 0.5,
      'rand_augment': {
        'num_ops': num_ops,
        'policy': 'timm',
        'magnitude': 9.0,
        'magnitude_std': 0.5,
        'probability': 0.5,
        'increasing': True,
        'fill': (124, 116, 104),
      },
    }
  )


def _measure(files, image_size, turn):
  """Times one chunk, with all stages and with the first stages only."""

  def decode(data):
    return decode_image(data, 'benchmark')

  def transform(num_ops):
    config = _config(num_ops)
    rng = np.random.default_rng(turn + 1)
    return lambda data: transforms.train_transform(
      decode(data), config, image_size, rng
    )

  stages = {'decode': decode, 'crop': transform(0), 'all': transform(2)}
  return {name: _time(function, files) for name, function in stages.items()}


def _time(function, files):
  wall, cpu = time.perf_counter(), time.process_time()
  for data in files:
    function(data)
  return {
    'cpu': time.process_time() - cpu,
    'wall': time.perf_counter() - wall,
  }


def _rate(turns, chunk):
  return chunk / statistics.median(turn['cpu'] for turn in turns)


def _stage_times(stages, chunk):
  decode, crop, total = (
    1000 / chunk * statistics.median(turn[name] for turn in stages)
    for name in ('decode', 'crop', 'all')
  )
  return {
    'decode': decode,
    'crop, resize, flip': crop - decode,
    'RandAugment': total - crop,
  }


def _compare(ours, theirs, chunk, versions):
  ratios = {}
  for clock in ('cpu', 'wall'):
    values = [b[clock] / a[clock] for a, b in zip(ours, theirs, strict=True)]
    ratios[clock] = [statistics.median(values), min(values), max(values)]
  return {
    'images_per_sec': _rate(theirs, chunk),
    'ratio': ratios,
    'versions': versions,
  }


def table(result: dict[str, Any]) -> str:
  """Formats the result of `run` as text."""
  lines = [
    f'{result["machine"]["processor"]}, one core, '
    f'{result["settings"]["image_size"]} x '
    f'{result["settings"]["image_size"]} pixels',
    f'this project   {result["images_per_sec"]:7.0f} images/s',
  ]
  timm = result['timm']
  if 'missing' in timm:
    lines.append(f'timm           {timm["missing"]}')
  else:
    lines.append(f'timm           {timm["images_per_sec"]:7.0f} images/s')
    for clock, (median, low, high) in timm['ratio'].items():
      lines.append(
        f'ratio ({clock + " time)":11s}{median:6.2f} ({low:.2f} to {high:.2f})'
      )
  stages = ', '.join(
    f'{name} {value:.2f}' for name, value in result['milliseconds'].items()
  )
  return '\n'.join([*lines, f'milliseconds an image: {stages}'])


def read_folder(folder: str) -> list[bytes]:
  """Returns the contents of up to 2,000 JPEG files in a folder, at any depth.

  Raises:
    UserError: there are none.
  """
  paths = find_in_folder(folder).paths
  files = [path for path in paths if path.lower().endswith(_JPEG)]
  if not files:
    raise UserError(f'--folder={folder} has no files {", ".join(_JPEG)}')
  return [pathlib.Path(path).read_bytes() for path in files[:2000]]


def read_dataset(name: str, data_dir: str | None) -> list[bytes]:
  """Returns the contents of up to 2,000 training images of a TFDS data set.

  Raises:
    UserError: the data set is unknown, or not prepared.
  """
  import tensorflow_datasets as tfds

  builder = find_builder(name, data_dir)
  if not has_array_record(builder):
    raise UserError(
      f'--dataset={name} is not prepared as array_record in '
      f'{builder.data_path.parent}; give a prepared one, or a --folder'
    )
  source = builder.as_data_source(
    'train', decoders={'image': tfds.decode.SkipDecoding()}
  )
  return [source[i]['image'] for i in range(min(2000, len(source)))]
