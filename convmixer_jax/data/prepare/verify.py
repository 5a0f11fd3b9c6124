"""Verifies that a prepared data set is complete and its labels are correct."""

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import tqdm
from array_record.python import array_record_module

from convmixer_jax.data.known_sets import NUM_EXAMPLES
from convmixer_jax.errors import UserError

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

# Labels of ILSVRC2012_val_00000001.JPEG and the three after it.
FIRST_LABELS = (65, 970, 230, 809)
_LABEL_FEATURE = {
  'imagenet2012': 'label',
  'imagenet2012_real': 'original_label',
}


def full_counts(builder: 'tfds.core.DatasetBuilder') -> dict[str, int]:
  """Returns the number of examples of each full split; {} if unknown."""
  with_config = builder.info.full_name.rpartition('/')[0]
  return NUM_EXAMPLES.get(with_config, NUM_EXAMPLES.get(builder.name, {}))


def shard_paths(
  split_info: 'tfds.core.SplitInfo', file_format: str
) -> list[str]:
  """Returns the paths of a split's files in a format, in TFDS's order."""
  template = split_info.filename_template.replace(filetype_suffix=file_format)
  return [
    os.fspath(path)
    for path in template.sharded_filepaths(len(split_info.shard_lengths))
  ]


def check_records(
  builder: 'tfds.core.DatasetBuilder',
) -> tuple[dict[str, int], int]:
  """Counts the records in the array_record files of a data set.

  Args:
    builder: TFDS's builder of a data set prepared as array_record.

  Returns:
    The number of examples of each split, and the size of all files in bytes.

  Raises:
    UserError: a file is missing, is damaged at its end, or its number of
      examples is not that of dataset_info.json.
  """
  counts, size = {}, 0
  for split, info in builder.info.splits.items():
    paths = shard_paths(info, 'array_record')
    for path, expected in zip(paths, info.shard_lengths, strict=True):
      found = _num_records(path)
      if found != expected:
        raise UserError(
          f'{path} holds {found:,} of the {expected:,} examples that '
          f'dataset_info.json lists; {_how_to_restart(builder)}'
        )
      size += os.path.getsize(path)
    counts[split] = sum(info.shard_lengths)
  if not counts:
    raise UserError(
      f'{builder.data_path} has no split; {_how_to_restart(builder)}'
    )
  return counts, size


def check_validation_labels(builder: 'tfds.core.DatasetBuilder') -> str:
  """Compares the labels of ImageNet's validation images with the correct ones.

  Args:
    builder: builder of imagenet2012 or imagenet2012_real; nothing is checked
      for other data sets.

  Returns:
    The result, as a sentence; '' if there was nothing to check.

  Raises:
    UserError: an image has the wrong label.
  """
  feature = _LABEL_FEATURE.get(builder.name)
  if feature is None or 'validation' not in builder.info.splits:
    return ''
  found = _labels_by_number(builder, feature)
  for number, label in enumerate(FIRST_LABELS, 1):
    _compare(builder, number, found.get(number, label), label)
  names = builder.info.features[feature]
  listed = [names.str2int(synset) for synset in _validation_synsets()]
  for number, label in found.items():
    _compare(builder, number, label, listed[number - 1])
  first = [str(found[i]) for i in range(1, len(FIRST_LABELS) + 1) if i in found]
  return (
    f'Each of the {len(found):,} validation images has the label of its number '
    f'({", ".join(first)}, ...)'
  )


def _how_to_restart(builder: 'tfds.core.DatasetBuilder') -> str:
  """Returns the advice to prepare again; nothing is deleted automatically."""
  return f'delete {builder.data_path} and prepare {builder.name} again'


def _num_records(path: str) -> int:
  """Returns the number of records of a file; a truncated file may have 0."""
  if not os.path.exists(path):
    raise UserError(
      f'{path} is missing; restore it or prepare the data set again'
    )
  try:
    reader = array_record_module.ArrayRecordReader(path)
    count = reader.num_records()
    reader.close()
  except RuntimeError as error:
    reason = str(error).split(';')[0]
    raise UserError(f'{path} is damaged: {reason}') from error
  return count


def _labels_by_number(
  builder: 'tfds.core.DatasetBuilder', feature: str
) -> dict[int, int]:
  """Returns {n: label} of all ILSVRC2012_val_n.JPEG; decodes no images."""
  import tensorflow_datasets as tfds

  skip = {'image': tfds.decode.SkipDecoding()}
  source = builder.as_data_source('validation', decoders=skip)
  found = {}
  examples: Iterable = (source[i] for i in range(len(source)))
  for example in tqdm.tqdm(
    examples, 'Checking labels', len(source), leave=False, unit=' examples'
  ):
    name = os.path.basename(example['file_name'].decode())
    match = re.fullmatch(r'ILSVRC2012_val_(\d{8})\.JPEG', name)
    if not match:
      raise UserError(f'{builder.data_path} has a validation image {name!r}')
    found[int(match[1])] = int(example[feature])
  return found


def _validation_synsets() -> list[str]:
  """Returns TFDS's list: the n-th synset is that of ILSVRC2012_val_n.JPEG."""
  import tensorflow_datasets as tfds

  path = 'datasets/imagenet2012/validation_labels.txt'
  return tfds.core.tfds_path(path).read_text().split()


def _compare(
  builder: 'tfds.core.DatasetBuilder', number: int, found: int, correct: int
) -> None:
  if found != correct:
    raise UserError(
      f'{builder.data_path}: validation image {number} is labelled {found}, '
      f'but its label is {correct}; labels are shifted if the validation tar '
      'was packed with its directory or with a file missing: pack the 50,000 '
      f'images alone, then {_how_to_restart(builder)}'
    )
