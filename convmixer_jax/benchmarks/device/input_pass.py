"""Makes batches of CIFAR-10, to time the input alone.

A program that answers one request, a line of JSON with `config`, the changes of
the config cifar10 by dotted key, and `seconds`, the approximate time in which
batches are counted. With `input.on_device` they are made by the devices of this
process, else by the host, and not sent to them.
"""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections

from convmixer_jax import config_files
from convmixer_jax.benchmarks.device import streaming
from convmixer_jax.data import pipeline, sources
from convmixer_jax.distributed import sharding
from convmixer_jax.training.on_device.batches import DeviceImages


def _work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
  config = config_files.load('cifar10')
  config.update_from_flattened_dict(request['config'])
  start = time.perf_counter()
  source = sources.create_source(config.dataset, config.dataset.train_split)
  opened = time.perf_counter()
  batches = _open(source, config)
  next(batches)
  first = time.perf_counter()
  # Prefetched batches do not count.
  for _ in itertools.islice(batches, config.input.prefetch):
    pass
  count, begin = 0, time.perf_counter()
  while (now := time.perf_counter()) - begin < request['seconds'] or not count:
    next(batches)
    count += 1
  yield {
    'part': 'input alone',
    'made_by': 'devices' if config.input.on_device else 'host',
    'images': len(source),
    'open_seconds': opened - start,
    'first_batch_seconds': first - opened,
    'images_per_sec': count * config.batch_size / (now - begin),
  }


def _open(
  source: sources.Source, config: ml_collections.ConfigDict
) -> Iterator[Any]:
  """Returns the batches, each of which is complete when it is returned."""
  if not config.input.on_device:
    return pipeline.train_batches(source, config)
  mesh = sharding.create_mesh(config.mesh)
  images = DeviceImages(source, source, config, mesh)
  return map(jax.block_until_ready, images.train_batches())


if __name__ == '__main__':
  streaming.serve(_work)
