r"""Measures how ImageNet's 1.28 million files open as class folders.

    python scripts/measure_folder_listing.py --directory=EMPTY_DIR \
        [--classes=1000] [--images=1281] [--output=FILE.json]

Makes a tree of ImageNet's shape and names in a directory that does not exist
yet: in each class, all files are links to one small JPEG. Opens it in a process
of its own for each measurement, first without the cached listing and then with
it; removes the tree.
"""

import argparse
import io
import json
import os
import pathlib
import pickle
import platform
import resource
import shutil
import subprocess
import sys
import time

import numpy as np
from PIL import Image


def make_tree(root, classes, images):
  stream = io.BytesIO()
  Image.new('RGB', (64, 64), (90, 120, 150)).save(stream, 'JPEG')
  for number in range(classes):
    synset = f'n{number:08d}'
    folder = root / synset
    folder.mkdir(parents=True)
    first = folder / f'{synset}_0.JPEG'
    first.write_bytes(stream.getvalue())
    for image in range(1, images):
      os.link(first, folder / f'{synset}_{image}.JPEG')


def measure(root, split):
  """Prints what opening and reading a split takes, as JSON."""
  import jax  # noqa: F401 (a run has done so before it opens its data)

  from convmixer_jax.data.folders.source import FolderSource

  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  start = time.perf_counter()
  source = FolderSource(root, split)
  seconds = time.perf_counter() - start
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  indices = np.random.default_rng(0).integers(0, len(source), 10_000)
  start = time.perf_counter()
  for index in indices:
    source.stored_example(int(index))
  reading = (time.perf_counter() - start) / len(indices)
  pickled = len(pickle.dumps(source, protocol=pickle.HIGHEST_PROTOCOL))
  result = {
    'split': split,
    'images': len(source),
    'classes': source.num_classes,
    'seconds': round(seconds, 2),
    'added_peak_memory_mib': round((after - before) / 1024, 1),
    'peak_memory_mib': round(after / 1024, 1),
    'pickled_mib': round(pickled / 2**20, 1),
    'bytes_per_image': round(pickled / len(source), 1),
    'microseconds_to_read_an_image': round(1e6 * reading, 1),
  }
  print(json.dumps(result))


def run(root, split, cache):
  command = [sys.executable, __file__, f'--measure={root}', f'--split={split}']
  environment = os.environ | {
    'CONVMIXER_JAX_CACHE': str(cache),
    'PYTHONPATH': str(pathlib.Path(__file__).parents[1]),
  }
  output = subprocess.run(
    command, env=environment, check=True, capture_output=True, text=True
  ).stdout
  return json.loads(output)


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--directory', type=pathlib.Path)
  parser.add_argument('--classes', type=int, default=1000)
  parser.add_argument('--images', type=int, default=1281)
  parser.add_argument('--output', type=pathlib.Path)
  parser.add_argument('--measure', help='a tree to open, in this process')
  parser.add_argument('--split', default='all')
  arguments = parser.parse_args()
  if arguments.measure:
    measure(arguments.measure, arguments.split)
    return
  directory = arguments.directory
  directory.mkdir(parents=True)
  try:
    start = time.perf_counter()
    make_tree(directory / 'train', arguments.classes, arguments.images)
    made = time.perf_counter() - start
    time.sleep(3)  # a directory that has just changed is not cached
    cache = directory / 'cache'
    rows = [
      {'listing': listing} | run(directory / 'train', split, cache)
      for listing, split in (
        ('read from the directories', 'all'),
        ('from the cache', 'all'),
        ('from the cache', 'train[:90%]'),
      )
    ]
    size = sum(path.stat().st_size for path in cache.rglob('*.npz'))
  finally:
    shutil.rmtree(directory)
  result = {
    'cpu_cores': os.cpu_count(),
    'machine': platform.machine(),
    'python': platform.python_version(),
    'seconds_to_make_the_tree': round(made, 1),
    'cached_listing_mib': round(size / 2**20, 1),
    'openings': rows,
  }
  print(json.dumps(result, indent=2))
  if arguments.output:
    arguments.output.write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
  main()
