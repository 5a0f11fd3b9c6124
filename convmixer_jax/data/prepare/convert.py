"""Converts TFDS data sets: adds array_record files to those in tfrecord."""

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import tqdm

from convmixer_jax.data.prepare.verify import shard_paths
from convmixer_jax.errors import UserError

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

_PARTIAL = 'incomplete.'  # TFDS's own prefix of a file that is being written


def bytes_to_convert(builder: 'tfds.core.DatasetBuilder') -> int:
  """Returns the size in bytes of the tfrecord files still to convert.

  Raises:
    UserError: a tfrecord file is missing.
  """
  total = 0
  for source, target, _ in _shards(builder):
    if not os.path.exists(source):
      raise UserError(
        f'{source} is missing: the tfrecord copy is incomplete, and cannot be '
        'converted'
      )
    if not os.path.exists(target):
      total += os.path.getsize(source)
  return total


def convert_to_array_record(builder: 'tfds.core.DatasetBuilder') -> None:
  """Writes array_record files next to the tfrecord ones, which are kept.

  The result equals that of `tfds convert_format`, which needs Apache Beam: the
  same records in the same order, and array_record as an alternative format in
  dataset_info.json. `tfds.load` continues to read the tfrecord files. If
  array_record were the main format, TFDS could no longer read those.

  TFDS 4.9.10 finds the new files if it builds from the directory
  (`tfds.builder_from_directory`, or a name with a version), not if it builds
  from the code of the data set: `tfds.builder(name)` drops alternative formats.

  A file gets its final name when it is complete, and dataset_info.json lists
  the format when all files are complete; existing files are not written again.
  So this may be stopped at any time and called again.

  Raises:
    UserError: a tfrecord file is damaged, or its number of examples is not that
      of dataset_info.json.
  """
  from tensorflow_datasets.core.file_adapters import ArrayRecordFileAdapter

  _remove_partial_files(builder)
  with tqdm.tqdm(
    desc='Converting',
    total=sum(info.num_examples for info in builder.info.splits.values()),
    unit=' examples',
    mininterval=1,
  ) as bar:
    for source, target, length in _shards(builder):
      if os.path.exists(target):
        bar.update(length)
        continue
      folder, name = os.path.split(target)
      partial = os.path.join(folder, _PARTIAL + name)
      try:
        ArrayRecordFileAdapter.write_examples(
          partial, _records(source, length, bar)
        )
        os.replace(partial, target)
      except BaseException:
        if os.path.exists(partial):
          os.remove(partial)
        raise
  _change_dataset_info(builder, 'tfrecord', ['array_record'])


def _shards(
  builder: 'tfds.core.DatasetBuilder',
) -> Iterator[tuple[str, str, int]]:
  """Yields the tfrecord path, array_record path and length of each shard."""
  for info in builder.info.splits.values():
    yield from zip(
      shard_paths(info, 'tfrecord'),
      shard_paths(info, 'array_record'),
      info.shard_lengths,
      strict=True,
    )


def _records(
  path: str, length: int, bar: tqdm.tqdm
) -> Iterator[tuple[int, bytes]]:
  """Yields numbered records of a tfrecord file, whose checksums TF verifies."""
  import tensorflow as tf

  count = 0
  try:
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
      yield count, record
      count += 1
      bar.update()
  except tf.errors.DataLossError as error:
    raise UserError(
      f'{path} is damaged after {count:,} of its {length:,} examples'
    ) from error
  if count != length:
    raise UserError(
      f'{path} holds {count:,} of the {length:,} examples that '
      'dataset_info.json lists'
    )


def _remove_partial_files(builder: 'tfds.core.DatasetBuilder') -> None:
  for path in builder.data_path.glob(f'{_PARTIAL}*.array_record*'):
    path.unlink()


def forget_deleted_tfrecord(builder: 'tfds.core.DatasetBuilder') -> bool:
  """Makes array_record the only format if the tfrecord files were deleted.

  Then `tfds.builder(name)` finds the array_record files too.

  Returns:
    Whether the formats were changed.
  """
  if builder.info.file_format.value != 'tfrecord' or any(
    os.path.exists(source) for source, _, _ in _shards(builder)
  ):
    return False
  _change_dataset_info(builder, 'array_record', [])
  return True


def _change_dataset_info(
  builder: 'tfds.core.DatasetBuilder', main: str, alternatives: list[str]
) -> None:
  """Writes the formats to dataset_info.json, which is replaced atomically."""
  path = builder.data_path / 'dataset_info.json'
  info = json.loads(path.read_text())
  info |= {'fileFormat': main, 'alternativeFileFormats': alternatives}
  partial = path.with_name(_PARTIAL + path.name)
  partial.write_text(json.dumps(info, indent=2))
  partial.replace(path)
