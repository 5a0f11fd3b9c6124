"""Makes an epoch of batches of CIFAR-10 without a device, to time the input.

A program: it answers one request, a line of JSON with `config`, what is other
than in configs/cifar10.py by dotted key, and the `limit` in seconds after which
it makes no other batch.
"""

import itertools
import time
from collections.abc import Iterator
from typing import Any

from configs import cifar10
from convmixer_jax.benchmarks.device import streaming
from convmixer_jax.data import pipeline, sources

_FIRST = 2  # batches that are not timed: the processes start


def _work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
  config = cifar10.get_config()
  config.update_from_flattened_dict(request['config'])
  start = time.perf_counter()
  source = sources.create_source(config.dataset, config.dataset.train_split)
  opened = time.perf_counter()
  batches = pipeline.train_batches(source, config)
  for _ in range(_FIRST):
    next(batches)
  first = time.perf_counter()
  count, now = 0, first
  steps = pipeline.steps_per_epoch(source, config.batch_size)
  # What was made ahead while the first was taken, is not to count.
  ahead = config.input.prefetch
  for _ in itertools.islice(batches, ahead):
    pass
  first_timed = time.perf_counter()
  for _ in itertools.islice(batches, steps):
    count += 1
    now = time.perf_counter()
    if now - start > request['limit']:
      break
  yield {
    'part': 'input alone',
    'images': len(source),
    'open_seconds': opened - start,
    'first_batches_seconds': first - opened,
    'images_per_sec': count * config.batch_size / (now - first_timed),
  }


if __name__ == '__main__':
  streaming.serve(_work)
