"""Folders of images as a data set: splits, classes, awkward files, errors."""

import io
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import trees
from PIL import ExifTags, Image

from convmixer_jax import notes
from convmixer_jax.data import identity, sources
from convmixer_jax.data.folders.source import FolderSource
from convmixer_jax.data.folders.splits import default_split
from convmixer_jax.errors import UserError
from convmixer_jax.planning.data import data_size


@pytest.fixture(autouse=True)
def all_notes(monkeypatch):
  monkeypatch.setattr(notes, '_said', set())


def files_of(source):
  """Returns the names of the files, and the class of each."""
  return {
    os.path.basename(source.path(i)).decode(): source.class_names[
      source.label(i)
    ]
    for i in range(len(source))
  }


def test_splits_are_found_by_folder_name_in_any_case(tmp_path):
  trees.write_tree(tmp_path, {'TRAIN/cat': 3, 'TRAIN/ant': 2, 'Val/cat': 1})
  trees.write_tree(tmp_path, {'Val/ant': 1}, seed=6)
  train = FolderSource(str(tmp_path), 'train')
  assert train.class_names == ('ant', 'cat') and train.num_classes == 2
  assert files_of(train) == {
    '000.png': 'cat',
    '001.png': 'cat',
    '002.png': 'cat',
    '003.png': 'ant',
    '004.png': 'ant',
  }
  for name in ('validation', 'val', 'VAL'):
    assert set(files_of(FolderSource(str(tmp_path), name))) == {
      '005.png',
      '006.png',
    }
  assert len(FolderSource(str(tmp_path), 'train+validation')) == 7
  assert len(FolderSource(str(tmp_path), 'all')) == 7
  assert default_split(str(tmp_path)) == 'validation'


def test_pixels_are_those_of_the_file_and_indices_have_bounds(tmp_path):
  trees.write_tree(tmp_path, {'a': 2, 'b': 2})
  source = FolderSource(str(tmp_path), 'all')
  for index in range(4):
    with Image.open(os.fsdecode(source.path(index))) as file:
      np.testing.assert_array_equal(source[index]['image'], np.array(file))
    assert source[index]['label'] == index // 2
  with pytest.raises(IndexError):
    source[4]


def test_val_stands_for_test_where_there_is_one_of_them_only(tmp_path, capsys):
  trees.write_tree(
    tmp_path, {'train/a': 2, 'train/b': 2, 'val/a': 1, 'val/b': 1}
  )
  assert len(FolderSource(str(tmp_path), 'test')) == 2
  assert 'has no split test; it is evaluated on validation' in (
    capsys.readouterr().err
  )


def test_one_level_is_cut_by_class_without_overlap(tmp_path, capsys):
  trees.write_tree(tmp_path, {'a': 20, 'b': 10, 'c': 3})
  train, test = (FolderSource(str(tmp_path), s) for s in ('train', 'test'))
  kept, held_out = files_of(train), files_of(test)
  assert sorted(held_out.values()) == ['a', 'a', 'b', 'c']
  assert not kept.keys() & held_out.keys() and len(kept | held_out) == 33
  assert kept == files_of(FolderSource(str(tmp_path), 'train[:90%]'))
  assert held_out == files_of(FolderSource(str(tmp_path), 'train[90%:]'))
  assert len(FolderSource(str(tmp_path), 'all')) == 33
  assert len(FolderSource(str(tmp_path), 'train[:]')) == 33
  assert identity.overlap_warning(train, test) is None
  everything = FolderSource(str(tmp_path), 'all')
  assert 'WARNING: 4 of the 4' in identity.overlap_warning(everything, test)
  assert capsys.readouterr().err.count('90 % of the images of each class') == 1
  assert default_split(str(tmp_path)) == 'all'


def test_split_does_not_depend_on_place_or_order_of_writing(tmp_path):
  first = trees.write_tree(tmp_path / 'first', {'a': 30, 'b': 30})
  second = tmp_path / 'second'
  for path in sorted(first.rglob('*.png'), reverse=True):
    target = second / path.relative_to(first)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)
  found = [
    identity.identify(
      *(FolderSource(str(root), s) for s in ('train', 'validation'))
    )
    for root in (first, second)
  ]
  assert found[0] == found[1]


@pytest.mark.parametrize(
  'counts', [{'test': 2, 'train': 2, 'other': 2}, {'test/x': 2, 'other': 2}]
)
def test_classes_may_be_called_like_splits(tmp_path, counts):
  trees.write_tree(tmp_path, counts)
  names = tuple(sorted(name.partition('/')[0] for name in counts))
  assert FolderSource(str(tmp_path), 'all').class_names == names


def test_other_folders_beside_train_are_named(tmp_path, capsys):
  trees.write_tree(tmp_path, {'train/a': 1, 'train/b': 1, 'raw': 2})
  assert FolderSource(str(tmp_path), 'all').class_names == ('a', 'b')
  assert 'beside them are not read: raw' in capsys.readouterr().err


def test_unknown_split_names_those_that_exist(tmp_path):
  trees.write_tree(tmp_path, {'train/a': 2, 'val/a': 1, 'test/a': 1})
  with pytest.raises(UserError, match=r'no split .dev.; it has .*train'):
    FolderSource(str(tmp_path), 'dev')
  with pytest.raises(UserError, match='is not a split or a slice'):
    FolderSource(str(tmp_path), 'train[10%]')
  with pytest.raises(UserError, match='out of range'):
    FolderSource(str(tmp_path), 'train[:5]')
  with pytest.raises(UserError, match='a percentage and a number'):
    FolderSource(str(tmp_path), 'train[1:50%]')
  with pytest.raises(UserError, match='no images in split'):
    FolderSource(str(tmp_path), 'train[1:1]')


def test_empty_classes_are_refused_by_name(tmp_path):
  trees.write_tree(tmp_path, {'a': 1, 'b': 0, 'c': 0})
  (tmp_path / 'b' / 'notes.txt').write_text('nothing')
  with pytest.raises(UserError, match=r"class folders 'b', 'c' .*1 not an im"):
    FolderSource(str(tmp_path), 'all')


def test_classes_of_one_split_only_are_named(tmp_path, capsys):
  trees.write_tree(
    tmp_path, {'train/a': 1, 'train/b': 1, 'val/a': 1, 'val/c': 1}
  )
  train = FolderSource(str(tmp_path), 'train')
  test = FolderSource(str(tmp_path), 'validation')
  assert train.class_names == test.class_names == ('a', 'b', 'c')
  assert [test.label(i) for i in range(2)] == [0, 2]
  said = capsys.readouterr().err
  assert 'train of' in said and "1 of the 3 classes: 'c'" in said
  assert 'validation of' in said and "1 of the 3 classes: 'b'" in said


def test_any_format_links_and_odd_names_are_read(tmp_path, capsys):
  root = trees.write_tree(tmp_path / 'set', {'a': 1, 'b': 1})
  for name in ('webp', 'tiff', 'bmp', 'gif'):
    (root / 'a' / f'1.{name.upper()}').write_bytes(trees.encode(1, name))
  (root / 'a' / 'no extension').write_bytes(trees.encode(2))
  (root / 'a' / 'text.txt').write_text('text')
  (root / 'a' / '._000.png').write_bytes(b'')
  (root / 'a' / 'gone.png').symlink_to(tmp_path / 'nowhere.png')
  elsewhere = trees.write_tree(tmp_path / 'elsewhere', {'deep/er': 2}, seed=9)
  (root / 'b' / 'link').symlink_to(elsewhere)
  (root / 'b' / 'up').symlink_to(root)
  (root / 'b' / 'self').symlink_to('.')
  (root / 'loop').symlink_to('loop')
  os.mkdir(os.fsencode(root) + b'/\xff\n')
  for name in (b'\xfe.png', b'new\nline.png', b'[*?].png'):
    with open(os.fsencode(root) + b'/\xff\n/' + name, 'wb') as file:
      file.write(trees.encode(4))
  source = FolderSource(str(root), 'all')
  assert source.class_names == (r'\xff\n', 'a', 'b')
  assert [source[i]['label'] for i in range(len(source))] == (
    [0] * 3 + [1] * 6 + [2] * 3
  )
  said = capsys.readouterr().err
  assert '1 hidden' in said and '1 not an image' in said
  assert '1 a link to nothing' in said
  assert '1 a link to a folder that it is in' in said
  found = json.loads(json.dumps(identity.identify(source)))
  assert identity.check(found)['class_names'] == list(source.class_names)


def test_same_letters_in_another_unicode_form_are_one_class(tmp_path):
  trees.write_tree(tmp_path, {'train/caf\u00e9': 1, 'val/cafe\u0301': 1})
  assert FolderSource(str(tmp_path), 'val').class_names == ('caf\u00e9',)
  trees.write_tree(tmp_path, {'train/cafe\u0301': 1})
  with pytest.raises(UserError, match='two folders for the class'):
    FolderSource(str(tmp_path), 'val')


def test_damaged_missing_and_tiny_images_are_named(tmp_path):
  trees.write_tree(tmp_path, {'a': 2})
  (tmp_path / 'a' / '000.png').write_bytes(trees.encode()[:60])
  (tmp_path / 'a' / '002.png').write_bytes(trees.encode(size=1))
  source = FolderSource(str(tmp_path), 'all')
  (tmp_path / 'a' / '001.png').unlink()
  for index, reason in enumerate(
    (
      'cannot decode image .*',
      'a/001.png cannot be read .No such',
      '.*too small',
    )
  ):
    with pytest.raises(UserError, match=reason) as error:
      source[index]
    assert f'a/{index:03d}.png' in str(error.value)
    assert '\n' not in str(error.value)


def test_photographs_are_turned_upright_unless_the_config_says_no(
  config, tmp_path
):
  pixels = np.zeros((8, 16, 3), np.uint8)
  pixels[:, :8] = 255
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = 6
  stream = io.BytesIO()
  Image.fromarray(pixels).save(stream, 'PNG', exif=exif)
  trees.write_tree(tmp_path, {'a': 0, 'b': 1})
  (tmp_path / 'a' / '1.png').write_bytes(stream.getvalue())
  config.dataset.name, config.dataset.data_dir = 'folder', str(tmp_path)
  upright = sources.create_source(config.dataset, 'all')[0]['image']
  config.dataset.exif_rotate = False
  stored = sources.create_source(config.dataset, 'all')[0]['image']
  np.testing.assert_array_equal(stored, pixels)
  np.testing.assert_array_equal(upright, np.rot90(pixels, -1))


@pytest.mark.parametrize(
  ('data_dir', 'reason'),
  [
    ('', 'needs config.dataset.data_dir'),
    ('nowhere', 'there is no directory nowhere'),
    ('gs://bucket/photos', 'is not on this machine'),
    (__file__, 'is a file; give a directory'),
  ],
)
def test_wrong_directory_is_refused(data_dir, reason):
  with pytest.raises(UserError, match=reason):
    FolderSource(data_dir, 'train')


def test_directory_of_loose_images_is_refused(tmp_path):
  (tmp_path / '1.png').write_bytes(trees.encode())
  with pytest.raises(UserError, match='a folder for each class'):
    FolderSource(str(tmp_path), 'train')


def test_source_is_the_same_in_another_process(tmp_path):
  trees.write_tree(tmp_path, {'a': 5, 'b': 3})
  source = FolderSource(str(tmp_path), 'train')
  again = pickle.loads(pickle.dumps(source))
  assert [again.stored_example(i) for i in range(len(again))] == [
    source.stored_example(i) for i in range(len(source))
  ]
  assert again.origin == source.origin


@pytest.mark.parametrize('name', ['nothing', 'cifar10'])
def test_class_folders_as_data_dir_of_a_tfds_name_are_noticed(
  config, tmp_path, name
):
  trees.write_tree(tmp_path, {'a': 1, 'b': 1})
  config.dataset.name, config.dataset.data_dir = name, str(tmp_path)
  with pytest.raises(UserError, match=r'give config\.dataset\.name = folder'):
    sources.create_source(config.dataset, 'train')


def test_directory_as_name_is_refused_with_what_to_give(config, tmp_path):
  config.dataset.name = str(tmp_path)
  with pytest.raises(UserError, match=f'config.dataset.data_dir = {tmp_path}'):
    sources.create_source(config.dataset, 'train')


def test_plan_counts_the_images_of_a_folder(config, tmp_path):
  trees.write_tree(tmp_path, {'a': 10, 'b': 10})
  config.dataset.name, config.dataset.data_dir = 'folder', str(tmp_path)
  assert data_size(config.dataset) == (18, 2)
