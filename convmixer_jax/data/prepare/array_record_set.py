"""Writes a data set in TFDS's layout, as array_record, without TensorFlow.

TFDS opens it by name and directory, like a data set that it prepared itself.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_FEATURES = 'tensorflow_datasets.core.features.'


def image_feature(dtype: str = 'uint8', channels: int = 3) -> dict[str, Any]:
  """Returns TFDS's description of a feature that holds images of any size."""
  shape = {'dimensions': ['-1', '-1', str(channels)]}
  return {
    'pythonClassName': f'{_FEATURES}image_feature.Image',
    'image': {'dtype': dtype, 'shape': shape},
  }


def label_feature(num_classes: int) -> dict[str, Any]:
  """Returns TFDS's description of a feature that holds class labels."""
  return {
    'pythonClassName': f'{_FEATURES}class_label_feature.ClassLabel',
    'classLabel': {'numClasses': str(num_classes)},
  }


def tensor_feature(dtype: str, *shape: int) -> dict[str, Any]:
  """Returns TFDS's description of a feature that holds arrays."""
  return {
    'pythonClassName': f'{_FEATURES}tensor_feature.Tensor',
    'tensor': {
      'shape': {'dimensions': [str(n) for n in shape]},
      'dtype': dtype,
      'encoding': 'none',
    },
  }


def shard_name(name: str, split: str) -> str:
  """Returns the name of the file of a split, which has one shard."""
  return f'{name}-{split}.array_record-00000-of-00001'


def write_split(
  directory: pathlib.Path,
  name: str,
  split: str,
  examples: Iterable[tuple[bytes, int | Sequence[int]]],
) -> int:
  """Writes the file of a split; returns the number of examples.

  Args:
    directory: existing directory of this version of the data set.
    name: name of the data set.
    split: name of the split, such as 'train'.
    examples: pairs of an encoded image, such as a JPEG file, and its label,
      or labels.
  """
  from array_record.python import array_record_module
  from tensorflow_datasets.proto import tf_example_generated_pb2

  path = directory / shard_name(name, split)
  path.unlink(missing_ok=True)
  writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
  count = 0
  for image, label in examples:
    example = tf_example_generated_pb2.Example()
    values = example.features.feature
    values['image'].bytes_list.value.append(image)
    labels = [label] if isinstance(label, int) else label
    values['label'].int64_list.value.extend(labels)
    writer.write(example.SerializeToString())
    count += 1
  writer.close()
  return count


def write_info(
  directory: pathlib.Path,
  name: str,
  features: Mapping[str, Any],
  lengths: Mapping[str, int],
  class_names: Sequence[str] = (),
) -> None:
  """Writes TFDS's metadata of the splits that `write_split` wrote.

  Args:
    directory: directory of this version of the data set, named after it.
    name: name of the data set.
    features: TFDS's descriptions of `image`, `label` and any other features.
    lengths: number of examples of each split.
    class_names: names of the labels 0, 1, ..., if they have names.
  """
  description = {
    'pythonClassName': f'{_FEATURES}features_dict.FeaturesDict',
    'featuresDict': {'features': dict(features)},
  }
  (directory / 'features.json').write_text(json.dumps(description))
  if class_names:
    names = '\n'.join(class_names) + '\n'
    (directory / 'label.labels.txt').write_text(names)
  splits = [
    {
      'name': split,
      'numBytes': str((directory / shard_name(name, split)).stat().st_size),
      'shardLengths': [str(length)],
      'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
    }
    for split, length in lengths.items()
  ]
  info = {
    'name': name,
    'version': directory.name,
    'fileFormat': 'array_record',
    'splits': splits,
  }
  (directory / 'dataset_info.json').write_text(json.dumps(info))
