"""Sets of the Hugging Face Hub, written to this disk: no network is used."""

import io
import os
import pickle
import sys

import numpy as np
import pytest
import trees
from PIL import Image

from convmixer_jax.data import identity, sources
from convmixer_jax.errors import UserError
from convmixer_jax.evaluation.protocols import default_split
from convmixer_jax.planning.data import data_size

NAMES = ['ant', 'bee']


@pytest.fixture
def hub(monkeypatch, tmp_path):
  """The package, which keeps what it makes in a directory of the test."""
  datasets = pytest.importorskip('datasets')
  monkeypatch.setattr(
    datasets.config, 'HF_DATASETS_CACHE', str(tmp_path / 'cache')
  )
  return datasets


def make(hub, count=20, image='image', label='label', first=0, kind=None):
  features = hub.Features(
    {
      image: hub.Image(),
      label: kind or hub.ClassLabel(names=NAMES),
      'other': hub.Value('float32'),
    }
  )
  rows = {
    image: [
      {'bytes': trees.encode(first + i), 'path': None} for i in range(count)
    ],
    label: [i * 2 // count for i in range(count)],
    'other': [0.5] * count,
  }
  if kind is not None and kind.dtype == 'string':
    rows[label] = [NAMES[k] for k in rows[label]]
  return hub.Dataset.from_dict(rows, features)


@pytest.fixture
def saved(hub, tmp_path):
  path = tmp_path / 'photos'
  splits = {'train': make(hub), 'test': make(hub, 6, first=20)}
  hub.DatasetDict(splits).save_to_disk(str(path))
  return f'hf:{path}'


def open_split(config, name, split, **keys):
  config.dataset.name = name
  config.dataset.update(keys)
  return sources.create_source(config.dataset, split)


def test_pixels_labels_and_names_are_those_of_the_set(config, saved):
  for cache_mib in (0, 100):
    source = open_split(config, saved, 'train', cache_mib=cache_mib)
    assert len(source) == 20 and source.class_names == ('ant', 'bee')
    for index in (0, 9, 10, 19):
      with Image.open(io.BytesIO(trees.encode(index))) as file:
        np.testing.assert_array_equal(source[index]['image'], np.array(file))
      assert source[index]['label'] == index // 10


def test_splits_and_slices_have_each_class(config, saved):
  assert default_split(saved, '') == 'test'
  assert len(open_split(config, saved, 'validation')) == 6
  assert len(open_split(config, saved, 'all')) == 26
  first, rest = (
    open_split(config, saved, split) for split in ('train[:80%]', 'train[80%:]')
  )
  assert [first[i]['label'] for i in range(16)] == [0] * 8 + [1] * 8
  assert [rest[i]['label'] for i in range(4)] == [0, 0, 1, 1]
  assert identity.overlap_warning(first, rest) is None
  whole = open_split(config, saved, 'train')
  assert 'WARNING: 4 of the 4' in identity.overlap_warning(whole, rest)
  with pytest.raises(UserError, match="no split 'dev'; it has train, test"):
    open_split(config, saved, 'dev')
  assert data_size(config.dataset) == (20, 2)


def test_split_saved_alone_is_cut(config, hub, tmp_path):
  make(hub).save_to_disk(str(tmp_path / 'one'))
  name = f'hf:{tmp_path}/one'
  sizes = [len(open_split(config, name, s)) for s in ('train', 'test', 'all')]
  assert sizes == [18, 2, 20]


def test_parquet_files_are_read(config, hub, tmp_path):
  (tmp_path / 'files').mkdir()
  make(hub).to_parquet(str(tmp_path / 'files' / 'train.parquet'))
  source = open_split(config, f'hf:{tmp_path}/files', 'train[:]')
  assert len(source) == 20 and source.class_names == ('ant', 'bee')


def test_columns_are_named_in_the_error_that_asks_for_them(
  config, hub, tmp_path
):
  make(hub, image='img', label='fine_label').save_to_disk(str(tmp_path / 'one'))
  name = f'hf:{tmp_path}/one'
  with pytest.raises(UserError, match=r'--config\.dataset\.image_feature=img$'):
    open_split(config, name, 'all')
  config.dataset.image_feature = 'img'
  with pytest.raises(UserError, match='label_feature=fine_label'):
    open_split(config, name, 'all')
  with pytest.raises(UserError, match="'other' is a column of float32"):
    open_split(config, name, 'all', label_feature='other')
  assert len(open_split(config, name, 'all', label_feature='fine_label')) == 20


@pytest.mark.parametrize(
  ('dtype', 'names'), [('string', ('ant', 'bee')), ('int64', ('0', '1'))]
)
def test_labels_without_classes_are_numbered(
  config, hub, tmp_path, dtype, names
):
  make(hub, kind=hub.Value(dtype)).save_to_disk(str(tmp_path / 'one'))
  source = open_split(config, f'hf:{tmp_path}/one', 'all')
  assert source.class_names == names
  assert [source[i]['label'] for i in (0, 19)] == [0, 1]


def test_images_without_labels_are_refused(config, hub, tmp_path):
  def without_label(row):
    return row | {'label': -1}

  table = hub.DatasetDict(
    {'train': make(hub), 'test': make(hub, 2).map(without_label)}
  )
  table.save_to_disk(str(tmp_path / 'set'))
  assert len(open_split(config, f'hf:{tmp_path}/set', 'train')) == 20
  with pytest.raises(UserError, match='2 of the 2 images in test of'):
    open_split(config, f'hf:{tmp_path}/set', 'test')


def test_damaged_image_is_named(config, hub, tmp_path):
  rows = {'image': [{'bytes': b'?', 'path': None}] * 4, 'label': [0, 0, 1, 1]}
  features = hub.Features(
    {'image': hub.Image(), 'label': hub.ClassLabel(names=NAMES)}
  )
  hub.Dataset.from_dict(rows, features).save_to_disk(str(tmp_path / 'set'))
  source = open_split(config, f'hf:{tmp_path}/set', 'all', cache_mib=0)
  with pytest.raises(
    UserError, match=r'cannot decode image 3 of hf:.*set train'
  ):
    source[3]


def test_moved_set_has_the_same_identity_and_workers_read_it(
  config, saved, tmp_path
):
  source = open_split(config, saved, 'train[:90%]', cache_mib=0)
  again = pickle.loads(pickle.dumps(source))
  assert again.stored_example(17) == source.stored_example(17)
  (tmp_path / 'moved').mkdir()
  os.rename(tmp_path / 'photos', tmp_path / 'moved' / 'photos')
  moved = open_split(config, f'hf:{tmp_path}/moved/photos', 'train[:90%]')
  assert identity.identify(moved) == identity.identify(again)


def test_unknown_and_unreachable_sets_are_refused_in_one_line(
  config, hub, monkeypatch
):
  monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
  monkeypatch.setattr(hub.config, 'HF_HUB_OFFLINE', True)
  for name in ('hf:owner/photos', 'hf:owner/photos/small@v1'):
    with pytest.raises(UserError, match='cannot be opened') as error:
      open_split(config, name, 'train')
    assert '\n' not in str(error.value)
  with pytest.raises(UserError, match='is neither a data set of the hub nor'):
    open_split(config, 'hf:/no/such/directory', 'train')


def test_missing_package_says_what_to_install(config, monkeypatch):
  monkeypatch.setitem(sys.modules, 'datasets', None)
  with pytest.raises(UserError, match=r"pip install '.\[huggingface\]'"):
    open_split(config, 'hf:owner/photos', 'train')


def with_label_lists(hub, names=('ant', 'bee', 'cat')):
  features = hub.Features(
    {
      'image': hub.Image(),
      'label': hub.List(hub.ClassLabel(names=list(names))),
    }
  )
  rows = {
    'image': [{'bytes': trees.encode(i), 'path': None} for i in range(10)],
    'label': [[], [2, 0], [1], *([[0]] * 7)],
  }
  return hub.Dataset.from_dict(rows, features)


@pytest.fixture
def labelled(hub, tmp_path):
  path = tmp_path / 'labelled'
  with_label_lists(hub).save_to_disk(str(path))
  return f'hf:{path}'


def test_lists_of_classes_are_several_labels_an_image(config, labelled):
  source = open_split(config, labelled, 'train', multi_label=True)
  assert source.class_names == ('ant', 'bee', 'cat')
  assert data_size(config.dataset) == (9, 3)
  found = [source[i]['label'].tolist() for i in range(3)]
  assert found == [[0, 0, 0], [1, 0, 1], [0, 1, 0]]
  assert [source.stored.label(i) for i in range(3)] == [[], [0, 2], [1]]
  with Image.open(io.BytesIO(trees.encode(1))) as file:
    np.testing.assert_array_equal(source[1]['image'], np.array(file))
  parts = [
    open_split(config, labelled, split, multi_label=True)
    for split in ('train[:70%]', 'train[70%:]')
  ]
  assert [len(part) for part in parts] == [7, 3]
  stored = [
    part.stored_example(i)[0] for part in parts for i in range(len(part))
  ]
  assert len(stored) == 10


def test_kind_of_label_must_be_that_of_the_config(config, saved, labelled):
  with pytest.raises(
    UserError, match='columns of lists of ClassLabel are none'
  ):
    open_split(config, saved, 'train', multi_label=True)
  with pytest.raises(UserError, match=r"'label' is a column of .*List"):
    open_split(config, labelled, 'train', multi_label=False)


def test_splits_that_number_classes_differently_are_refused(
  config, hub, tmp_path
):
  other = make(hub, 6, kind=hub.ClassLabel(names=NAMES[::-1]))
  for path, several, train, validation in (
    (tmp_path / 'one', False, make(hub), other),
    (
      tmp_path / 'lists',
      True,
      with_label_lists(hub),
      with_label_lists(hub, ('cat', 'bee', 'ant')),
    ),
  ):
    splits = {'train': train, 'validation': validation}
    hub.DatasetDict(splits).save_to_disk(str(path))
    open_split(config, f'hf:{path}', 'train', multi_label=several)
    with pytest.raises(UserError, match='has other classes in the column'):
      open_split(config, f'hf:{path}', 'validation', multi_label=several)
