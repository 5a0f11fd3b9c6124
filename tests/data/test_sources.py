"""Sources: digits, TFDS data sets, and errors of missing data sets."""

import io
import os
import warnings

import commands
import numpy as np
import pytest
import tiny_sets
from PIL import Image
from sklearn.datasets import load_digits

from configs import default
from convmixer_jax.data import examples, sources
from convmixer_jax.errors import UserError


@pytest.fixture
def dataset():
  return default.get_config().dataset


def png(value):
  file = io.BytesIO()
  Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(file, 'png')
  return file.getvalue()


def make_tfds(data_dir, images, file_format='array_record'):
  """Prepares a data set `tiny` of PNGs with TFDS."""
  import tensorflow_datasets as tfds

  class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      features = tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(None, None, 3)),
          'label': tfds.features.ClassLabel(num_classes=3),
        }
      )
      return tfds.core.DatasetInfo(
        builder=self, features=features, disable_shuffling=True
      )

    def _split_generators(self, dl_manager):
      return {'train': self._generate_examples()}

    def _generate_examples(self):
      for i, image in enumerate(images):
        yield i, {'image': io.BytesIO(image), 'label': i % 3}

  Tiny(data_dir=data_dir, file_format=file_format).download_and_prepare()


def test_splits_of_digits_are_balanced_and_complete(dataset):
  train = sources.create_source(dataset, 'train')
  test = sources.create_source(dataset, 'test')
  assert train.num_classes == test.num_classes == 10
  assert (len(train), len(test)) == (1442, 355)
  rows = [source[i] for source in (train, test) for i in range(len(source))]
  images = np.stack([row['image'] for row in rows])
  assert images.shape == (1797, 8, 8, 3) and images.dtype == np.uint8
  digits = load_digits()
  grey = np.rint(digits.images * 255 / 16).astype(np.uint8)
  assert sorted(image[..., 0].tobytes() for image in images) == sorted(
    image.tobytes() for image in grey
  )
  for label in range(10):
    held_out = sum(test[i]['label'] == label for i in range(len(test)))
    assert held_out == np.sum(digits.target == label) // 5


def test_slices_of_digits_divide_a_split(dataset):
  whole = sources.create_source(dataset, 'train')
  first, rest = (
    sources.create_source(dataset, split)
    for split in ('train[:80%]', 'train[80%:]')
  )
  assert (len(first), len(rest)) == (1154, 288)
  both = [source[i] for source in (first, rest) for i in range(len(source))]
  for i, example in enumerate(both):
    np.testing.assert_array_equal(example['image'], whole[i]['image'])
    assert example['label'] == whole[i]['label']
  assert rest.origin.ranges == (('train', 1154, 288),)
  assert len(sources.create_source(dataset, 'train+test[:10]')) == 1452


def test_unknown_split_of_digits_is_refused(dataset):
  with pytest.raises(UserError, match="'digits' has no split 'validation'"):
    sources.create_source(dataset, 'validation')


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A directory with the data set `tiny`; the last of six images is damaged."""
  data_dir = tmp_path_factory.mktemp('tfds')
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # from TensorFlow, while preparing
    make_tfds(data_dir, [png(10 * i) for i in range(5)] + [png(200)[:-30]])
  return str(data_dir)


def test_small_tfds_set_is_read_into_memory(dataset, prepared):
  dataset.name, dataset.data_dir = 'tiny', prepared
  source = sources.create_source(dataset, 'train[:80%]')
  assert isinstance(source, examples.InMemorySource)
  assert (len(source), source.num_classes) == (5, 3)
  assert source[4]['label'] == 1
  np.testing.assert_array_equal(source[4]['image'], np.full((4, 4, 3), 40))


def test_large_tfds_set_is_decoded_when_read(dataset, prepared):
  dataset.name, dataset.data_dir, dataset.cache_mib = 'tiny', prepared, 0
  source = sources.create_source(dataset, 'train')
  assert isinstance(source, sources.TfdsSource)
  assert source[1]['image'].max() == 10


def test_records_read_together_are_those_read_alone(dataset, prepared):
  dataset.name, dataset.data_dir, dataset.cache_mib = 'tiny', prepared, 0
  source = sources.create_source(dataset, 'train')
  indices = [3, 0, len(source) - 1]
  together = source.stored_examples(indices)
  assert together == [source.stored_example(index) for index in indices]
  with pytest.raises(UserError, match='cannot read record 10000 of tiny train'):
    source.stored_examples([0, 10_000])


def test_a_damaged_image_is_named(dataset, prepared):
  dataset.name, dataset.data_dir, dataset.cache_mib = 'tiny', prepared, 0
  source = sources.create_source(dataset, 'train')
  with pytest.raises(UserError, match='cannot decode image 5 of tiny train'):
    source[5]


def test_unknown_split_is_refused(dataset, prepared):
  dataset.name, dataset.data_dir = 'tiny', prepared
  with pytest.raises(UserError, match=r"'tiny' has no split 'test'; .* train"):
    sources.create_source(dataset, 'test')


def test_an_unprepared_set_is_refused_with_the_command(dataset, tmp_path):
  dataset.name, dataset.data_dir = 'cifar10', str(tmp_path)
  with pytest.raises(
    UserError,
    match=r"'cifar10' is not prepared in .*: python -m "
    rf'convmixer_jax prepare cifar10 --data_dir={tmp_path}',
  ):
    sources.create_source(dataset, 'train')


@pytest.mark.slow
def test_a_tfrecord_set_is_refused_with_the_command(dataset, tmp_path):
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    make_tfds(tmp_path, [png(0)], file_format='tfrecord')
  dataset.name, dataset.data_dir = 'tiny', str(tmp_path)
  with pytest.raises(
    UserError, match=r'stored as tfrecord, .*; convert it .*prepare tiny'
  ):
    sources.create_source(dataset, 'train')


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('cifarr', "'cifarr' is neither digits nor a TFDS data set"),
    ('cifar10:9.9.9', "'cifar10:9.9.9': .* cannot be loaded at version 9.9.9"),
  ],
)
def test_an_unknown_set_is_refused(dataset, tmp_path, name, message):
  dataset.name, dataset.data_dir = name, str(tmp_path)
  with pytest.raises(UserError, match=message):
    sources.create_source(dataset, 'train')


def test_reading_does_not_import_tensorflow(prepared):
  code = f"""
import sys
from configs import default
from convmixer_jax.data import examples, pipeline, sources
config = default.get_config()
config.dataset.name, config.dataset.data_dir = 'tiny', {prepared!r}
config.batch_size = 5
source = sources.create_source(config.dataset, 'train[:5]')
next(pipeline.train_batches(source, config))
assert 'tensorflow' not in sys.modules
"""
  done = commands.run(['-c', code])
  assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
  'CONVMIXER_TEST_DATA' not in os.environ,
  reason='CONVMIXER_TEST_DATA names no TFDS directory with real images',
)
@pytest.mark.parametrize(
  ('name', 'split', 'size', 'is_cached'),
  [
    ('cifar10', 'train[:10%]', 5000, True),
    ('cifar10', 'test', 10000, True),
    ('imagenette/full-size-v2', 'validation', 400, True),
    ('imagenet2012', 'train', 1200, False),
  ],
)
def test_real_sets_are_read(dataset, name, split, size, is_cached):
  dataset.name, dataset.data_dir = name, os.environ['CONVMIXER_TEST_DATA']
  dataset.cache_mib = 1024 if is_cached else 0
  source = sources.create_source(dataset, split)
  assert isinstance(source, examples.InMemorySource) == is_cached
  assert len(source) == size
  image = source[size - 1]['image']
  assert image.dtype == np.uint8 and image.shape[-1] == 3
  assert 0 <= source[0]['label'] < source.num_classes


@pytest.mark.parametrize('name', ['/somewhere/pictures', './here', '~/there'])
def test_path_given_as_a_data_set_is_named_as_such(name, tmp_path):
  with pytest.raises(UserError, match='is a path, not the name of a data set'):
    sources.prepared_builder(name, str(tmp_path))


def test_error_of_an_image_names_its_record_and_file(tmp_path):
  tiny_sets.write_set(tmp_path)
  source = sources.TfdsSource('tiny', 'train', str(tmp_path))
  record = {'image': b'', 'label': 0, 'file_name': b'cat/1\xff.jpg'}
  source._records = {3: record}
  with pytest.raises(UserError, match=r'3 of tiny train \(cat/1\\xff\.jpg\):'):
    source[3]
