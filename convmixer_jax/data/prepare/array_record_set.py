"""Writes a data set as TFDS lays it out, as array_record, without TensorFlow.

TFDS opens it by its name and directory, like a set that it prepared itself.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_FEATURES = 'tensorflow_datasets.core.features.'


def image_feature(dtype: str = 'uint8', channels: int = 3) -> dict[str, Any]:
  """Returns TFDS's description of images of any size."""
  shape = {'dimensions': ['-1', '-1', str(channels)]}
  return {
    'pythonClassName': f'{_FEATURES}image_feature.Image',
    'image': {'dtype': dtype, 'shape': shape},
  }


def label_feature(num_classes: int) -> dict[str, Any]:
  """Returns TFDS's description of the label of a class."""
  return {
    'pythonClassName': f'{_FEATURES}class_label_feature.ClassLabel',
    'classLabel': {'numClasses': str(num_classes)},
  }


def tensor_feature(dtype: str, *shape: int) -> dict[str, Any]:
  """Returns TFDS's description of an array."""
  return {
    'pythonClassName': f'{_FEATURES}tensor_feature.Tensor',
    'tensor': {
      'shape': {'dimensions': [str(n) for n in shape]},
      'dtype': dtype,
      'encoding': 'none',
    },
  }


def shard_name(name: str, split: str) -> str:
  """Returns the name of the only file of a split."""
  return f'{name}-{split}.array_record-00000-of-00001'


def write_split(
  directory: pathlib.Path,
  name: str,
  split: str,
  examples: Iterable[tuple[bytes, int]],
) -> int:
  """Writes encoded images with labels; returns how many there were.

  Args:
    directory: of this version of the set, which exists.
    name: of the set.
    split: such as 'train'.
    examples: files in a format that images have, such as JPEG; and labels.
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
    values['label'].int64_list.value.append(label)
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
  """Writes what makes files of `write_split` a data set.

  Args:
    directory: of this version of the set; its name is the version.
    name: of the set.
    features: TFDS's descriptions, of `image`, `label` and perhaps others.
    lengths: how many examples each split has.
    class_names: of the labels from 0 on, if they have names.
  """
  described = {
    'pythonClassName': f'{_FEATURES}features_dict.FeaturesDict',
    'featuresDict': {'features': dict(features)},
  }
  (directory / 'features.json').write_text(json.dumps(described))
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
