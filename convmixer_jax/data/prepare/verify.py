"""Whether a prepared TFDS set is whole, and its labels are the true ones."""

import os
import re
from collections.abc import Iterable

import tqdm
from array_record.python import array_record_module

from convmixer_jax.errors import UserError

# Examples of the full sets, from TFDS's catalog.
FULL_COUNTS = {
  'imagenet2012': {'train': 1_281_167, 'validation': 50_000},
  'imagenet2012_real': {'validation': 50_000},
  'imagenet_v2': {'test': 10_000},
  'imagenet_a': {'test': 7_500},
  'imagenet_r': {'test': 30_000},
  'imagenet_sketch': {'test': 50_889},
  'imagenette/full-size-v2': {'train': 9_469, 'validation': 3_925},
  'imagenette/320px-v2': {'train': 9_469, 'validation': 3_925},
  'imagenette/160px-v2': {'train': 9_469, 'validation': 3_925},
  'cifar10': {'train': 50_000, 'test': 10_000},
  'cifar100': {'train': 50_000, 'test': 10_000},
}

# Labels of ILSVRC2012_val_00000001.JPEG and the three after it.
FIRST_LABELS = (65, 970, 230, 809)
_LABEL_FEATURE = {
  'imagenet2012': 'label',
  'imagenet2012_real': 'original_label',
}


def full_counts(builder) -> dict[str, int]:
  """Returns the examples of each split of the full set; {} if not known."""
  with_config = builder.info.full_name.rpartition('/')[0]
  return FULL_COUNTS.get(with_config, FULL_COUNTS.get(builder.name, {}))


def shard_paths(split_info, file_format: str) -> list[str]:
  """Returns where TFDS looks for a split's files of a format, in order."""
  template = split_info.filename_template.replace(filetype_suffix=file_format)
  return [
    os.fspath(path)
    for path in template.sharded_filepaths(len(split_info.shard_lengths))
  ]


def check_records(builder) -> tuple[dict[str, int], int]:
  """Counts the records that are in the array_record files of a set.

  Args:
    builder: TFDS's builder of a set that is prepared as array_record.

  Returns:
    The number of examples of each split, and the bytes of all files.

  Raises:
    UserError: a file is missing, damaged at its end, or holds another number
      of examples than dataset_info.json says.
  """
  counts, size = {}, 0
  for split, info in builder.info.splits.items():
    paths = shard_paths(info, 'array_record')
    for path, expected in zip(paths, info.shard_lengths, strict=True):
      found = _num_records(path)
      if found != expected:
        raise UserError(
          f'{path} holds {found:,} of the {expected:,} examples that '
          f'dataset_info.json counts; {start_again(builder)}'
        )
      size += os.path.getsize(path)
    counts[split] = sum(info.shard_lengths)
  if not counts:
    raise UserError(f'{builder.data_path} has no split; {start_again(builder)}')
  return counts, size


def check_validation_labels(builder) -> str:
  """Compares the labels of ImageNet's validation images with the true ones.

  Args:
    builder: of imagenet2012 or imagenet2012_real; of another set, nothing is
      checked.

  Returns:
    What was found, in a sentence; '' if there was nothing to check.

  Raises:
    UserError: a label is not the image's own.
  """
  feature = _LABEL_FEATURE.get(builder.name)
  if feature is None or 'validation' not in builder.info.splits:
    return ''
  found = _labels_by_place(builder, feature)
  for place, label in enumerate(FIRST_LABELS, 1):
    _compare(builder, place, found.get(place, label), label)
  names = builder.info.features[feature]
  listed = [names.str2int(synset) for synset in _validation_synsets()]
  for place, label in found.items():
    _compare(builder, place, label, listed[place - 1])
  first = [str(found[i]) for i in range(1, len(FIRST_LABELS) + 1) if i in found]
  return (
    f'Each of the {len(found):,} validation images has the label of its number '
    f'({", ".join(first)}, ...)'
  )


def start_again(builder) -> str:
  """Returns the advice to make a set anew; nothing is deleted unasked."""
  return f'delete {builder.data_path} and prepare {builder.name} again'


def _num_records(path: str) -> int:
  """Returns the records of a file; a cut one counts 0."""
  if not os.path.exists(path):
    raise UserError(
      f'{path} is missing; bring it back or prepare the set again'
    )
  try:
    reader = array_record_module.ArrayRecordReader(path)
    count = reader.num_records()
    reader.close()
  except RuntimeError as error:
    reason = str(error).split(';')[0]
    raise UserError(f'{path} is damaged: {reason}') from error
  return count


def _labels_by_place(builder, feature: str) -> dict[int, int]:
  """Returns {n: label} of every ILSVRC2012_val_n.JPEG, images not decoded."""
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
  """Returns TFDS's own list: the n-th line is of ILSVRC2012_val_n.JPEG."""
  import tensorflow_datasets as tfds

  path = 'datasets/imagenet2012/validation_labels.txt'
  return tfds.core.tfds_path(path).read_text().split()


def _compare(builder, place: int, found: int, true: int) -> None:
  if found != true:
    raise UserError(
      f'{builder.data_path}: validation image {place} is labelled {found}, but '
      f'its label is {true}; was the validation tar packed with its directory '
      'or with a file missing? That shifts the labels: pack the 50,000 images '
      f'alone, then {start_again(builder)}'
    )
