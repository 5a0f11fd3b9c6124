"""Data sets in TFDS's layout, written without TFDS: also such as it refuses."""

import io
import json
import pathlib

import numpy as np
from array_record.python import array_record_module
from PIL import Image
from tensorflow_datasets.proto import tf_example_generated_pb2

RECORDS = 'tiny-train.array_record-00000-of-00001'
_FEATURES = 'tensorflow_datasets.core.features.'
LABEL = {
  'pythonClassName': f'{_FEATURES}class_label_feature.ClassLabel',
  'classLabel': {'numClasses': '3'},
}


def image_feature(dtype='uint8', channels=3):
  shape = {'dimensions': ['-1', '-1', str(channels)]}
  return {
    'pythonClassName': f'{_FEATURES}image_feature.Image',
    'image': {'dtype': dtype, 'shape': shape},
  }


def tensor_feature(dtype, *shape):
  return {
    'pythonClassName': f'{_FEATURES}tensor_feature.Tensor',
    'tensor': {
      'shape': {'dimensions': [str(n) for n in shape]},
      'dtype': dtype,
      'encoding': 'none',
    },
  }


def encode(image, file_format='PNG'):
  stream = io.BytesIO()
  Image.fromarray(image).save(stream, file_format)
  return stream.getvalue()


def noise(seed=0, shape=(8, 8, 3)):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def examples(count=8, changed=None):
  """Returns encoded images and labels, some of them replaced by `changed`."""
  good = {i: (encode(noise(i)), i % 3) for i in range(count)}
  return list((good | (changed or {})).values())


def write_set(data_dir, records=None, **features):
  """Writes the split `train` of a set `tiny`, of `(image, label)`s.

  `features` replaces those of TFDS; None leaves one out. Returns where it is.
  """
  directory = pathlib.Path(data_dir) / 'tiny' / '1.0.0'
  directory.mkdir(parents=True, exist_ok=True)
  records = examples() if records is None else records
  features = {'image': image_feature(), 'label': LABEL} | features
  features = {k: v for k, v in features.items() if v is not None}
  (directory / 'features.json').write_text(
    json.dumps(
      {
        'pythonClassName': f'{_FEATURES}features_dict.FeaturesDict',
        'featuresDict': {'features': features},
      }
    )
  )
  split = {
    'name': 'train',
    'numBytes': '1000',
    'shardLengths': [str(len(records))],
    'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
  }
  (directory / 'dataset_info.json').write_text(
    json.dumps(
      {
        'name': 'tiny',
        'version': '1.0.0',
        'fileFormat': 'array_record',
        'splits': [split],
      }
    )
  )
  path = directory / RECORDS
  path.unlink(missing_ok=True)
  writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
  for image, label in records:
    example = tf_example_generated_pb2.Example()
    values = example.features.feature
    values['image'].bytes_list.value.append(image)
    values['label'].int64_list.value.append(label)
    writer.write(example.SerializeToString())
  writer.close()
  return directory
