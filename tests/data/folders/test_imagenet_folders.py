"""ImageNet unpacked into folders equals the set that TFDS has made of it."""

import io
import os
import pathlib
import tarfile

import ml_collections
import numpy as np
import pytest

from convmixer_jax.cli import prepare
from convmixer_jax.data import sources
from convmixer_jax.data.prepare import tars

SPLITS = ('train', 'validation')


def unpack(manual_dir, root):
  """Unpacks the inner tars of the training tar, one folder for each."""
  with tarfile.open(pathlib.Path(manual_dir) / tars.TRAIN) as outer:
    for member in outer.getmembers():
      content = io.BytesIO(outer.extractfile(member).read())
      with tarfile.open(fileobj=content) as inner:
        inner.extractall(
          root / 'train' / member.name.removesuffix('.tar'), filter='data'
        )


def write_folders(source, records, root, split):
  """Writes the stored files of a TFDS split into folders by synset."""
  for index in range(len(source)):
    data, label = source.stored_example(index)
    folder = root / split / source.class_names[label]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / records[index]['file_name'].decode()).write_bytes(data)


def open_set(name, data_dir, split):
  config = ml_collections.ConfigDict(
    {
      'name': name,
      'data_dir': str(data_dir),
      'image_feature': 'image',
      'label_feature': 'label',
      'exif_rotate': False,
      'cache_mib': 0,
      'multi_label': False,
      'mean': (0.5, 0.5, 0.5),
    }
  )
  return sources.create_source(config, split)


def records_of(data_dir, split):
  import tensorflow_datasets as tfds

  directory = pathlib.Path(data_dir) / 'imagenet2012' / '5.1.0'
  skip = {'image': tfds.decode.SkipDecoding()}
  builder = tfds.builder_from_directory(directory)
  return builder.as_data_source(split, decoders=skip)


def require_same_examples(root, data_dir, split):
  """Compares pixels and synset of each image, by the name of its file."""
  folders = open_set('folder', root, f'{split}[:]')
  prepared = open_set('imagenet2012', data_dir, split)
  records = records_of(data_dir, split)
  number = {records[i]['file_name']: i for i in range(len(records))}
  assert len(folders) == len(prepared) == len(number)
  assert list(folders.class_names) == sorted(folders.class_names)
  for index in range(len(folders)):
    name = os.path.basename(folders.path(index))
    ours, theirs = folders[index], prepared[number.pop(name)]
    np.testing.assert_array_equal(ours['image'], theirs['image'])
    assert (
      folders.class_names[ours['label']]
      == prepared.class_names[theirs['label']]
    )
  assert not number


@pytest.mark.slow
def test_unpacked_tars_equal_the_prepared_set(tmp_path, manual_dir):
  prepare.prepare('imagenet2012', str(tmp_path / 'data'), manual_dir)
  unpack(manual_dir, tmp_path / 'folders')
  require_same_examples(tmp_path / 'folders', tmp_path / 'data', 'train')


@pytest.mark.slow
@pytest.mark.skipif(
  'CONVMIXER_TEST_DATA' not in os.environ,
  reason='CONVMIXER_TEST_DATA names no TFDS directory with real images',
)
def test_folders_of_real_photographs_equal_the_prepared_set(tmp_path):
  data_dir = os.environ['CONVMIXER_TEST_DATA']
  for split in SPLITS:
    write_folders(
      open_set('imagenet2012', data_dir, split),
      records_of(data_dir, split),
      tmp_path,
      split,
    )
  for split in SPLITS:
    require_same_examples(tmp_path, data_dir, split)
