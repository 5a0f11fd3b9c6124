"""Data sets made from a tar of images."""

import bz2
import gzip
import lzma

import numpy as np
import pytest
import tiny_archives

from convmixer_jax.data import sources
from convmixer_jax.data.prepare.image_tar import (
  check_image_tar,
  prepare_image_tar,
)
from convmixer_jax.errors import UserError


def write_tar(path, members):
  path.write_bytes(tiny_archives.tar_bytes(members))
  return str(path)


def test_data_set_has_the_images_splits_and_labels_of_the_tar(tmp_path):
  members = [
    ('train/', None),
    ('train/frog/1.jpg', tiny_archives.jpeg(200)),
    ('train/cat/0.jpg', tiny_archives.jpeg(10)),
    ('test/frog/0.jpg', tiny_archives.jpeg(100)),
  ]
  tar = write_tar(tmp_path / 'images.tar', members)
  contents = prepare_image_tar(tar, tmp_path / 'data', 'pets')
  assert contents == 'train: 2 images, test: 1 images'
  train = sources.TfdsSource('pets', 'train', str(tmp_path / 'data'))
  assert train.class_names == ('cat', 'frog')
  assert [train[i]['label'] for i in range(2)] == [1, 0]
  assert abs(int(train[0]['image'][0, 0, 0]) - 200) < 10
  test = sources.TfdsSource('pets', 'test', str(tmp_path / 'data'))
  assert test[0]['label'] == 1


def test_hidden_files_of_a_tar_are_left_out(tmp_path):
  members = [
    ('train/cat/._0.jpg', b'Mac OS X'),
    ('__MACOSX/train/cat/0.jpg', b'Mac OS X'),
    ('train/cat/0.JPE', tiny_archives.jpeg()),
    ('train/.DS_Store', b'Mac OS X'),
  ]
  tar = write_tar(tmp_path / 'images.tar', members)
  contents = prepare_image_tar(tar, tmp_path / 'data', 'pets')
  assert contents == 'train: 1 images'


def test_sizes_that_no_image_has_are_refused(tmp_path):
  tar = bytearray(tiny_archives.tar_bytes([('train/cat/0.jpg', b'')]))
  tar[124:136] = b'\x80' + (2**70).to_bytes(11)
  tar[148:156] = b' ' * 8
  tar[148:156] = b'%06o\0 ' % sum(tar[:512])
  path = tmp_path / 'images.tar'
  path.write_bytes(tar)
  with pytest.raises(UserError, match=r"cannot be read as a tar \('train/cat"):
    prepare_image_tar(str(path), tmp_path / 'data', 'pets')


def test_other_layouts_are_refused(tmp_path):
  path = tmp_path / 'images.tar'
  flat = write_tar(path, [('cat.jpg', tiny_archives.jpeg())])
  with pytest.raises(UserError, match=r"a file 'cat.jpg'; it must contain"):
    prepare_image_tar(flat, tmp_path, 'pets')
  empty = write_tar(path, [('train/', None)])
  with pytest.raises(UserError, match='has no images'):
    prepare_image_tar(empty, tmp_path, 'pets')
  path.write_bytes(b'no tar')
  with pytest.raises(UserError, match='cannot be read'):
    prepare_image_tar(str(path), tmp_path, 'pets')
  with pytest.raises(UserError, match='cannot be read'):
    check_image_tar(str(path))


@pytest.mark.parametrize('compression', [lzma, gzip, bz2])
def test_damaged_and_truncated_archives_are_refused(tmp_path, compression):
  content = np.random.default_rng(0).bytes(100_000)
  tar = tiny_archives.tar_bytes([('train/cat/0.jpg', content)])
  compressed = compression.compress(tar)
  half = len(compressed) // 2
  damaged = compressed[:half] + bytes(64) + compressed[half + 64 :]
  if compression is gzip:  # verifies its checksum only at the end
    begin, end = gzip.compress(tar[:50_000]), gzip.compress(tar[50_000:])
    damaged = begin + end[:10] + b'\x07' + end[11:]
  path = tmp_path / 'images.tar'
  for archive in (compressed[:half], damaged):
    path.write_bytes(archive)
    with pytest.raises(UserError, match='cannot be read'):
      prepare_image_tar(str(path), tmp_path, 'pets')


def test_layout_is_checked_by_the_first_image(tmp_path):
  path = tmp_path / 'images.tar'
  write_tar(path, [('train/cat/0.jpg', tiny_archives.jpeg()), ('x.txt', b'')])
  check_image_tar(str(path))
  write_tar(path, [('x.txt', b'')])
  with pytest.raises(UserError, match=r"a file 'x.txt'; it must contain"):
    check_image_tar(str(path))


def test_archive_that_lacks_files_is_refused(tmp_path):
  picture = tiny_archives.jpeg()
  tar = tiny_archives.tar_bytes(
    [(f'train/cat/{number}.jpg', picture) for number in range(4)]
  )
  size = 512 * (1 + -(-len(picture) // 512))  # of a file in it
  damaged = bytearray(tar)
  damaged[2 * size + 20] ^= 1  # in the header of the third
  path = tmp_path / 'images.tar'
  for content in (
    tar[: 2 * size],  # after the second
    tar[: 2 * size + 100],  # within a header
    bytes(damaged),
  ):
    path.write_bytes(content)
    with pytest.raises(UserError, match='cannot be read as a tar'):
      prepare_image_tar(str(path), tmp_path / 'data', 'pets')
  path.write_bytes(tar)
  contents = prepare_image_tar(str(path), tmp_path / 'data', 'pets')
  assert contents == 'train: 4 images'
