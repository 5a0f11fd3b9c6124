"""Data sets in TFDS's layout, written without TFDS: also such as it refuses."""

import io
import pathlib

import numpy as np
from PIL import Image

from convmixer_jax.data.prepare.array_record_set import (
  image_feature,
  label_feature,
  shard_name,
  tensor_feature,
  write_info,
  write_split,
)

__all__ = ['image_feature', 'label_feature', 'tensor_feature']

RECORDS = shard_name('tiny', 'train')
LABEL = label_feature(3)


_FEATURES = 'tensorflow_datasets.core.features.'


def text_feature():
  """Returns TFDS's description of a feature that holds text."""
  return {
    'pythonClassName': f'{_FEATURES}text_feature.Text',
    'text': {},
  }


def sequence_feature(feature):
  """Returns TFDS's description of a sequence of another feature."""
  return {
    'pythonClassName': f'{_FEATURES}sequence_feature.Sequence',
    'sequence': {'feature': feature, 'length': '-1'},
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


def write_set(data_dir, records=None, class_names=(), **features):
  """Writes the split `train` of a set `tiny`, of `(image, label)`s.

  `features` replaces those of TFDS; None leaves one out. Returns where it is.
  """
  directory = pathlib.Path(data_dir) / 'tiny' / '1.0.0'
  directory.mkdir(parents=True, exist_ok=True)
  records = examples() if records is None else records
  features = {'image': image_feature(), 'label': LABEL} | features
  features = {k: v for k, v in features.items() if v is not None}
  length = write_split(directory, 'tiny', 'train', records)
  write_info(directory, 'tiny', features, {'train': length}, class_names)
  return directory
