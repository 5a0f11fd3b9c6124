"""Makes batches from a source with Grain: shuffles, augments and batches.

The content of batch n depends on (seed, n) only, not on threads, processes or
the first step of the run. So a run resumes from the step number alone.
"""

import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import grain
import ml_collections
import numpy as np
from absl import flags  # noqa: TID251 (Grain reads them)

from convmixer_jax import limits
from convmixer_jax.config import (
  ImageSize,
  eval_image_size,
  height_width,
  image_shape,
  num_channels,
)
from convmixer_jax.data import own_transform, worker_deaths, worker_processes
from convmixer_jax.data.augment import transforms
from convmixer_jax.data.batches import Batches, HostBatch
from convmixer_jax.data.examples import Example, InMemorySource, Source
from convmixer_jax.data.own_source import OwnSource, find_copy_obstacle
from convmixer_jax.data.repeated import RepeatedImages, steps_per_epoch
from convmixer_jax.notes import note

_MAX_WORKERS = 32  # each holds one or two batches

_TransformedExample = dict[str, np.ndarray | np.generic]


def train_batches(
  source: Source,
  config: ml_collections.ConfigDict,
  *,
  first_step: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  transform: own_transform.TrainTransform | None = None,
) -> Batches:
  """Returns this process's rows of each training batch, indefinitely.

  An epoch has every image once, in a new order; as in the authors' training,
  the images that do not fill the last batch are dropped. With
  `config.repeated_augmentation` see `RepeatedImages`. Process p of P gets the
  p-th block of rows of the global batch.

  Args:
    source: the training split.
    config: the complete config.
    first_step: number of the first batch.
    process_index: index of this process.
    process_count: number of processes.
    transform: augments an image, in place of `config.augment`.

  Returns:
    Dicts of `image` `[B / P, H, W, C]`, of `batch_dtype`, and `label` in int32,
    `[B / P]` or, with several labels an image, `[B / P, K]`.
  """
  dataset = train_rows(source, config)
  if transform is None:
    augment = partial(
      _augment, config=config.augment, size=config.dataset.image_size
    )
  else:
    shape = image_shape(config.dataset)
    augment = partial(_augment_by, transform=transform, shape=shape)
  dataset = dataset.random_map(augment)
  dataset = dataset.batch(config.batch_size // process_count)
  dataset = dataset[process_index::process_count][first_step:]
  # Evaluations have batches of the same size, at the same time.
  num_bytes = 2 * _batch_bytes(source, config, process_count)
  return Batches(_prefetch(dataset, source, config.input, num_bytes, transform))


def train_rows(
  source: Sequence[Any] | Source, config: ml_collections.ConfigDict
) -> grain.MapDataset:
  """Returns the examples of all batches, row by row, indefinitely.

  Args:
    source: the training split, or anything of its length.
    config: the complete config.
  """
  epoch_size = steps_per_epoch(len(source), config) * config.batch_size
  # Grain shuffles each epoch differently, and gives each (seed, position) its
  # own random generator.
  dataset = grain.MapDataset.source(source).seed(config.seed).shuffle()
  if config.repeated_augmentation > 1:
    dataset = RepeatedImages(dataset, config)
  else:
    dataset = dataset[:epoch_size]
  return dataset.repeat()


def first_batch(
  source: Source,
  config: ml_collections.ConfigDict,
  *,
  process_index: int = 0,
  process_count: int = 1,
) -> HostBatch:
  """Returns this process's rows of the first training batch, not augmented.

  Args:
    source: the training split.
    config: the complete config.
    process_index: index of this process.
    process_count: number of processes.

  Returns:
    A dict as those of `train_batches`, of images as in evaluation.
  """
  dataset = grain.MapDataset.source(source).seed(config.seed).shuffle()
  rows = config.batch_size // process_count
  augment, size = config.augment, config.dataset.image_size
  images, labels = [], []
  for index in range(process_index * rows, (process_index + 1) * rows):
    example = dataset[index]
    images.append(transforms.eval_transform(example['image'], augment, size))
    labels.append(np.int32(example['label']))
  return {'image': np.stack(images), 'label': np.stack(labels)}


def eval_batches(
  source: Source,
  config: ml_collections.ConfigDict,
  *,
  process_index: int = 0,
  process_count: int = 1,
) -> Batches:
  """Returns this process's rows of each batch of one pass over `source`.

  The last batch is padded with copies of the last image; `mask` is 0 for them.

  Args:
    source: the split to evaluate on.
    config: the complete config.
    process_index: index of this process.
    process_count: number of processes.

  Returns:
    Dicts of `image` and `label` as in training, and `mask` `[B / P]` in
    float32.
  """
  num_batches = -(-len(source) // config.batch_size)
  size = eval_image_size(config)
  dataset = grain.MapDataset.range(num_batches * config.batch_size).map(
    partial(_eval_example, source=source, config=config.augment, size=size)
  )
  dataset = dataset.batch(config.batch_size // process_count)
  dataset = dataset[process_index::process_count]
  num_bytes = _batch_bytes(source, config, process_count)
  return Batches(_prefetch(dataset, source, config.input, num_bytes))


def _augment(
  example: Example,
  rng: np.random.Generator,
  *,
  config: ml_collections.ConfigDict,
  size: ImageSize,
) -> _TransformedExample:
  image = transforms.train_transform(example['image'], config, size, rng)
  return {'image': image, 'label': np.int32(example['label'])}


def _augment_by(
  example: Example,
  rng: np.random.Generator,
  *,
  transform: own_transform.TrainTransform,
  shape: tuple[int, int, int],
) -> _TransformedExample:
  image = own_transform.apply(transform, example['image'], rng, shape)
  return {'image': image, 'label': np.int32(example['label'])}


def _eval_example(
  index: int,
  *,
  source: Source,
  config: ml_collections.ConfigDict,
  size: ImageSize,
) -> _TransformedExample:
  example = source[min(index, len(source) - 1)]
  image = transforms.eval_transform(example['image'], config, size)
  mask = np.float32(index < len(source))
  return {'image': image, 'label': np.int32(example['label']), 'mask': mask}


def batch_dtype(source: Source) -> np.dtype:
  """Returns the dtype of the images of batches: uint8, else float32.

  uint16 images are divided by 65,535 before they are resized, in float32.
  """
  is_uint8 = source[0]['image'].dtype == np.uint8
  return np.dtype(np.uint8 if is_uint8 else np.float32)


def _batch_bytes(source, config, process_count):
  sizes = config.dataset.image_size, eval_image_size(config)
  num_pixels = max(math.prod(height_width(size)) for size in sizes)
  num_values = num_pixels * num_channels(config.dataset)
  num_bytes = batch_dtype(source).itemsize * num_values
  num_labels = source.num_classes if config.dataset.get('multi_label') else 1
  num_bytes += 4 * (num_labels + 1)  # and the mask
  return config.batch_size // process_count * num_bytes


def _prefetch(
  dataset: grain.MapDataset,
  source: Source,
  config: ml_collections.ConfigDict,
  num_bytes: int,
  transform: own_transform.TrainTransform | None = None,
) -> grain.IterDataset:
  """Prefetches batches; each thread or worker process makes whole batches.

  Args:
    dataset: of batches.
    source: that they are made from.
    config: `config.input`.
    num_bytes: of shared memory, for each batch that is ready.
    transform: of the user, if there is one.
  """
  num_cores = limits.num_cores()
  num_threads = config.num_threads or num_cores
  num_workers = config.num_workers
  if num_workers == -1:
    num_workers = default_num_workers(source, num_cores)
  if num_workers:
    buffer_size = -(-config.prefetch // num_workers)
    num_batches = worker_processes.batches_in_flight(num_workers, buffer_size)
    obstacle = worker_processes.find_obstacle(
      num_workers, num_batches * num_bytes
    )
    if isinstance(source, OwnSource):
      obstacle = obstacle or find_copy_obstacle(source, source.argument)
    if transform is not None:
      obstacle = obstacle or find_copy_obstacle(transform, 'train_transform')
    if obstacle:
      note(
        f'threads make the batches, more slowly: {obstacle}', 'worker processes'
      )
      num_workers = 0
  if not num_workers:
    return dataset.to_iter_dataset(
      grain.ReadOptions(
        num_threads=num_threads, prefetch_buffer_size=config.prefetch
      )
    )
  if not flags.FLAGS.is_parsed():  # Grain passes them on, also in a notebook
    flags.FLAGS.mark_as_parsed()
  worker_deaths.watch_workers()
  one_ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
  return dataset.to_iter_dataset(one_ahead).mp_prefetch(
    grain.MultiprocessingOptions(
      num_workers=num_workers,
      per_worker_buffer_size=buffer_size,
    ),
    worker_init_fn=_exit_only_with_parent,
  )


def _exit_only_with_parent(*_: int) -> None:
  """Makes a worker ignore signals, and exit when its parent process does.

  Ctrl-C and Slurm signal all processes; the last step still needs its batch.
  """
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)

  def exit_with_parent():
    multiprocessing.parent_process().join()
    os._exit(0)

  threading.Thread(target=exit_with_parent, daemon=True).start()


def default_num_workers(source: Source, num_cores: int) -> int:
  """Returns the number of worker processes; 0 for threads of this process.

  Threads share Python's lock: two processes make 1.5 times as many images as
  two threads. Images in memory would be copied into each process, and a source
  of the user's may have them there.
  """
  if isinstance(source, (InMemorySource, OwnSource)) or num_cores == 1:
    return 0
  return min(max(num_cores // 2, 2), _MAX_WORKERS)
