"""Images in two splits at once: counted by content, within bounds."""

import filecmp
import os
import shutil

import pytest
import trees

from convmixer_jax.data import identity, sources
from convmixer_jax.data.folders import duplicates
from convmixer_jax.data.folders.source import FolderSource


@pytest.fixture
def root(tmp_path):
  return trees.write_tree(
    tmp_path, {'train/a': 4, 'train/b': 4, 'val/a': 3, 'val/b': 3}
  )


def splits(root):
  return (FolderSource(str(root), split) for split in ('train', 'val'))


def test_different_images_are_no_duplicates(root):
  assert duplicates.find_duplicates(*splits(root)) == (0, 6, None)
  assert identity.overlap_warning(*splits(root)) is None


def test_copies_and_links_are_counted_under_any_name_and_class(root):
  shutil.copy(root / 'train/a/000.png', root / 'val/b/copy.png')
  os.link(root / 'train/a/001.png', root / 'val/a/hard.png')
  (root / 'val/a/soft.png').symlink_to(root / 'train/b/004.png')
  (root / 'train/b/twice.png').symlink_to(root / 'train/a/000.png')
  found = duplicates.find_duplicates(*splits(root))
  assert found[:2] == (3, 9)
  mine, other = map(os.fsdecode, found.example)
  assert filecmp.cmp(mine, other, shallow=False)
  assert mine.startswith(f'{root}/val') and other.startswith(f'{root}/train')


def test_files_that_differ_in_one_byte_are_not_equal(root):
  content = bytearray((root / 'train/a/000.png').read_bytes())
  content[-1] ^= 1
  (root / 'val/a/000.png').write_bytes(content)
  assert duplicates.find_duplicates(*splits(root)).num_found == 0


def test_warning_names_a_pair_in_one_line(root, config):
  shutil.copy(root / 'train/a/000.png', root / 'val/b/copy.png')
  config.dataset.name, config.dataset.data_dir = 'folder', str(root)
  train, evaluated = (  # in memory
    sources.create_source(config.dataset, split) for split in ('train', 'val')
  )
  warning = identity.overlap_warning(train, evaluated)
  assert warning.startswith("WARNING: 1 of 7 images of 'val' have the same")
  assert 'val/b/copy.png' in warning and 'train/a/000.png' in warning
  assert '\n' not in warning


def test_work_is_bounded(root, monkeypatch):
  for name in ('000', '001', '002', '003'):
    shutil.copy(root / f'train/a/{name}.png', root / f'val/b/{name}.png')
  monkeypatch.setattr(duplicates, '_MAX_BYTES', 2**18)
  count, compared, _ = duplicates.find_duplicates(*splits(root))
  assert count < 4 and compared < 10
  monkeypatch.setattr(duplicates, '_MAX_FILES', 17)
  assert duplicates.find_duplicates(*splits(root)) == (0, 0, None)


def test_files_that_are_gone_are_left_out(root):
  shutil.copy(root / 'train/a/000.png', root / 'val/b/copy.png')
  train, evaluated = splits(root)
  (root / 'train/a/000.png').unlink()
  assert duplicates.find_duplicates(train, evaluated).num_found == 0
