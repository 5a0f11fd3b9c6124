"""Makes batches from images on the devices.

For each batch the host draws what `pipeline.train_batches` draws, for all rows
at once, and sends these numbers. The devices gather, crop, flip and apply
RandAugment, each to its own rows: so the batches are those of the host, bit for
bit. Normalisation, mixup and erasing are part of the step in both cases.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from convmixer_jax.data.augment.draws import Draws, draw
from convmixer_jax.data.sources import Source
from convmixer_jax.data.train_rows import TrainRows
from convmixer_jax.distributed import sharding
from convmixer_jax.training.on_device import crop, rand_augment, store

Batch = dict[str, jax.Array]


class _Tables(NamedTuple):
  """Of the augmentation; None for what the config does not need."""

  rows: crop.Matrices | None
  columns: crop.Matrices | None
  operations: rand_augment.Tables | None


class DeviceImages:
  """The images of a run, on its devices.

  Attributes:
    num_bytes: that they take on each device.
  """

  def __init__(
    self,
    train: Source,
    evaluated: Source,
    config: ml_collections.ConfigDict,
    mesh: Mesh,
  ):
    """Reads all images.

    Args:
      train: the training split.
      evaluated: the held-out split.
      config: the whole config.
      mesh: the devices.

    Raises:
      UserError: see `store.load`, and `TrainRows`.
    """
    self._config, self._mesh = config, mesh
    self._rows = TrainRows(len(train), config)
    self._num_evaluated = len(evaluated)
    self._train, self._evaluated = store.load(train, evaluated, config, mesh)
    tables = _make_tables(config, self._train.image.shape[1:3])
    self._tables = store.replicate(tables, mesh)
    whole, split = PartitionSpec(), PartitionSpec(mesh.axis_names)
    self._make_train_batch = jax.jit(
      jax.shard_map(
        partial(_make_train_batch, flips=config.augment.flip > 0),
        mesh=mesh,
        in_specs=(whole, whole, split, split),
        out_specs=split,
      )
    )
    self._make_eval_batch = jax.jit(
      jax.shard_map(
        _make_eval_batch,
        mesh=mesh,
        in_specs=(whole, split),
        out_specs=split,
      )
    )
    self.num_bytes = sharding.bytes_per_device((self._train, self._evaluated))

  def train_batches(self, first_step: int = 0) -> 'TrainBatches':
    """Returns the global batches of training, those of all processes.

    Args:
      first_step: number of the first batch.
    """
    return TrainBatches(self._train_batch, first_step)

  def eval_batches(self) -> Iterator[Batch]:
    """Yields the global batches of one pass over the held-out images."""
    batch_size, last = self._config.batch_size, self._num_evaluated - 1
    for first in range(0, self._num_evaluated, batch_size):
      rows = np.array(self._own_rows(first), np.int32)
      numbers = {
        'index': np.minimum(rows, last),
        'mask': (rows <= last).astype(np.float32),
      }
      yield self._make_eval_batch(
        self._evaluated, sharding.to_global(numbers, self._mesh)
      )

  def _own_rows(self, first):
    """Returns this process's rows of the batch that begins at a row."""
    count = self._config.batch_size // jax.process_count()
    first += jax.process_index() * count
    return range(first, first + count)

  def _train_batch(self, step):
    rows = self._own_rows(step * self._config.batch_size)
    draws = draw(
      self._config.augment,
      *self._train.image.shape[1:3],
      self._rows.stream,
      np.array(rows),
    )
    numbers = draws._asdict() | {'index': self._rows.images(rows)}
    numbers = sharding.to_global(numbers, self._mesh)
    index = numbers.pop('index')
    return self._make_train_batch(
      self._train, self._tables, index, Draws(**numbers)
    )


class TrainBatches(Iterator[Batch]):
  """The global batches of training, indefinitely."""

  def __init__(self, make_batch: Callable[[int], Batch], first_step: int):
    """Makes no batch yet.

    Args:
      make_batch: returns the batch of a step.
      first_step: number of the first batch.
    """
    self._make_batch, self._step = make_batch, first_step

  def __next__(self) -> Batch:
    """Returns the next batch, which the devices may still compute."""
    batch = self._make_batch(self._step)
    self._step += 1
    return batch

  def close(self) -> None:
    """Does nothing: there are no threads."""


def _make_tables(config, stored_size):
  rows = columns = operations = None
  lengths, stored, size = store.lengths_and_sizes(config, stored_size)
  if lengths[0]:
    rows, columns = map(crop.make_matrices, lengths, stored, size)
  ops = config.augment.rand_augment
  if ops.num_ops:
    operations = rand_augment.make_tables(ops, *size)
  return _Tables(rows, columns, operations)


def _make_train_batch(
  stored: store.Images,
  tables: Any,
  index: jax.Array,
  draws: Any,
  *,
  flips: bool,
) -> Batch:
  images = stored.image[index]
  if tables.rows is not None:
    images = crop.crop_and_resize(
      images, draws.box, draws.cubic, tables.rows, tables.columns
    )
  if flips:
    flip = draws.flip[:, None, None, None]
    images = jnp.where(flip, images[:, :, ::-1], images)
  if tables.operations is not None:
    images = rand_augment.rand_augment(
      images, draws.operation, draws.negate, tables.operations
    )
  return {'image': images, 'label': stored.label[index]}


def _make_eval_batch(stored: store.Images, numbers: Batch) -> Batch:
  index = numbers['index']
  return {
    'image': stored.image[index],
    'label': stored.label[index],
    'mask': numbers['mask'],
  }
