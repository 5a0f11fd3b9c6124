"""Small made sets of images that are not RGB squares, of two classes."""

import io
import pathlib

import numpy as np
from PIL import Image

from convmixer_jax.data.prepare import array_record_set

SPECTROGRAM = (32, 128)
BANDS = {f'B{k:02}': 24 if k < 5 else 12 for k in range(1, 13)}  # and sides


def spectrogram(index):
  """Returns float32 [32, 128], a tone that is clear or broad, in decibels."""
  rng = np.random.default_rng(index)
  time = np.arange(SPECTROGRAM[1]) / SPECTROGRAM[1]
  pitch = 16 + 10 * np.sin(8 * time + rng.uniform(0, 6))
  rows = np.arange(SPECTROGRAM[0])[:, None]
  values = -80 + 60 * np.exp(-((rows - pitch) ** 2) / (90 if index % 2 else 4))
  return (values + rng.normal(0, 3, values.shape)).astype(np.float32)


def satellite(index, bands=12, side=24):
  """Returns uint16 [side, side, bands], bright in some bands or in others."""
  rng = np.random.default_rng(index)
  level = np.where(np.arange(bands) % 2 == index % 2, 3000, 1500)
  values = level + rng.normal(0, 300, (side, side, bands))
  return np.clip(values, 0, 65535).astype(np.uint16)


def medical(index, height=40, width=30):
  """Returns uint8 [height, width], a scan with a spot or without."""
  rng = np.random.default_rng(index)
  values = rng.normal(60, 10, (height, width))
  if index % 2:
    rows, columns = np.mgrid[:height, :width]
    distance = (rows - height / 2) ** 2 + (columns - width / 2) ** 2
    values += 120 * np.exp(-distance / 40)
  return np.clip(values, 0, 255).astype(np.uint8)


def write_tfds(
  data_dir, name, features, encode, count=32, splits=('train', 'test')
):
  """Writes a set of TFDS; `encode(index)` returns values by feature.

  The classes are in the feature `kind`.
  """
  from array_record.python import array_record_module
  from tensorflow_datasets.proto import tf_example_generated_pb2

  directory = pathlib.Path(data_dir) / name / '1.0.0'
  directory.mkdir(parents=True)
  for number, split in enumerate(splits):
    path = directory / array_record_set.shard_name(name, split)
    writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
    for index in range(number * count, (number + 1) * count):
      example = tf_example_generated_pb2.Example()
      values = example.features.feature
      for key, value in encode(index).items():
        if value.dtype == np.float32:
          values[key].float_list.value.extend(value.ravel().tolist())
        else:
          values[key].int64_list.value.extend(value.ravel().tolist())
      values['kind'].int64_list.value.append(index % 2)
      writer.write(example.SerializeToString())
    writer.close()
  array_record_set.write_info(
    directory,
    name,
    features | {'kind': array_record_set.label_feature(2)},
    dict.fromkeys(splits, count),
  )
  (directory / 'kind.labels.txt').write_text('even\nodd\n')


def write_folder(root, encode, extension, count=32, splits=('train', 'test')):
  """Writes class folders; `encode(index)` returns the bytes of a file."""
  for number, split in enumerate(splits):
    for index in range(number * count, (number + 1) * count):
      kind = ('even', 'odd')[index % 2]
      path = pathlib.Path(root) / split / kind / f'{index}{extension}'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(encode(index))


def to_npy(array):
  stream = io.BytesIO()
  np.save(stream, array)
  return stream.getvalue()


def to_png(array):
  stream = io.BytesIO()
  Image.fromarray(array).save(stream, 'PNG')
  return stream.getvalue()


def write_spectrograms(data_dir):
  tensor = array_record_set.tensor_feature('float32', *SPECTROGRAM)
  write_tfds(
    data_dir,
    'sounds',
    {'spectrogram': tensor},
    lambda index: {'spectrogram': spectrogram(index)},
  )


def write_bands(data_dir):
  """Writes a set with a feature for each band, of two resolutions."""

  def encode(index):
    return {
      name: satellite(index, 12, side)[..., k]
      for k, (name, side) in enumerate(BANDS.items())
    }

  features = {
    name: array_record_set.tensor_feature('uint16', side, side)
    for name, side in BANDS.items()
  }
  write_tfds(data_dir, 'bands', features, encode)
