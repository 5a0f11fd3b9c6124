"""Times training batches of CIFAR-10 that the host makes, and the devices.

    python scripts/time_input_on_device.py --data_dir=DIR --output=result.json

Images per second of the input alone, without training, in turns; the ratio is
taken within a turn. All batches are on the device in the end. The first batches
of a turn do not count: they compile, start threads, or were made ahead.
"""

import argparse
import itertools
import json
import pathlib
import sys
import time

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from configs import cifar10
from convmixer_jax.benchmarks.machine import describe_machine
from convmixer_jax.data import pipeline, sources
from convmixer_jax.distributed import sharding
from convmixer_jax.training.batches import SentBatches
from convmixer_jax.training.on_device.batches import DeviceImages

AUGMENTATIONS = {
  'flip, RandAugment (configs/cifar10.py)': {},
  'flip': {'augment.rand_augment.num_ops': 0},
  'random resized crop, flip': {
    'augment.rand_augment.num_ops': 0,
    'augment.crop': 'random_resized',
  },
}


def images_per_sec(batches, batch_size, skipped, count):
  for batch in itertools.islice(batches, skipped):
    jax.block_until_ready(batch)
  start = time.perf_counter()
  for batch in itertools.islice(batches, count):
    jax.block_until_ready(batch)
  return count * batch_size / (time.perf_counter() - start)


def time_augmentation(config, source, arguments):
  """Returns images/s of each turn: of the host, and of the devices."""
  mesh = sharding.create_mesh(config.mesh)
  images = DeviceImages(source, source, config, mesh)
  turns = []
  for turn in range(arguments.turns):
    host = SentBatches(pipeline.train_batches(source, config), mesh)
    rates = []
    for batches in (host, images.train_batches(turn * arguments.batches)):
      skipped = config.input.prefetch + 1
      rates.append(
        images_per_sec(batches, config.batch_size, skipped, arguments.batches)
      )
      batches.close()
    turns.append(rates)
  return np.array(turns)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data_dir', default='', help='directory of TFDS')
  parser.add_argument('--split', default='train', help='images to read')
  parser.add_argument('--turns', type=int, default=5, help='turns')
  parser.add_argument('--batches', type=int, default=20, help='of a turn')
  parser.add_argument('--output', help='JSON file to write')
  arguments = parser.parse_args()
  config = cifar10.get_config()
  config.dataset.data_dir = arguments.data_dir
  source = sources.create_source(config.dataset, arguments.split)
  found = {
    'machine': describe_machine(),
    'device': jax.devices()[0].device_kind,
    'jax': jax.__version__,
  }
  print(found)
  for name, changes in AUGMENTATIONS.items():
    config = cifar10.get_config()
    config.update_from_flattened_dict(changes)
    turns = time_augmentation(config, source, arguments)
    host, device = np.median(turns, axis=0)
    ratios = turns[:, 1] / turns[:, 0]
    found[name] = turns.round().tolist()
    print(
      f'{name}: host {host:,.0f}, device {device:,.0f} images/s; ratio '
      f'{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})',
      flush=True,
    )
  if arguments.output:
    pathlib.Path(arguments.output).write_text(json.dumps(found, indent=2))


if __name__ == '__main__':
  main()
