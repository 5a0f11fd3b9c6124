"""Listings of large directories: kept, noticed when they are out of date."""

import os
import pickle

import pytest
import trees

from convmixer_jax.data.folders import cached_listing
from convmixer_jax.data.folders.source import FolderSource


@pytest.fixture
def root(tmp_path, monkeypatch):
  """A directory that is kept in the cache, with times long ago."""
  monkeypatch.setenv('CONVMIXER_JAX_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setattr(cached_listing, '_MIN_FILES', 4)
  monkeypatch.setattr(cached_listing, '_SETTLED_SECONDS', -60)
  return trees.write_tree(tmp_path / 'set', {'a': 3, 'b/deep': 3})


def names(root):
  source = FolderSource(str(root), 'all')
  return [os.path.basename(source.path(i)).decode() for i in range(len(source))]


def test_listing_is_read_once(root, monkeypatch):
  found = names(root)
  monkeypatch.setattr(
    cached_listing, 'list_images', lambda *_: pytest.fail('it is read again')
  )
  assert names(root) == found == [f'{i:03d}.png' for i in range(6)]
  assert FolderSource(str(root), 'all')[5]['image'].shape == (8, 8, 3)


def test_added_and_removed_files_are_seen(root):
  names(root)
  trees.write_tree(root, {'b/deep': 1}, seed=6)
  assert names(root)[-1] == '006.png'
  (root / 'a' / '000.png').unlink()
  assert names(root)[0] == '001.png'
  trees.write_tree(root, {'c': 1}, seed=7)
  assert names(root)[-1] == '007.png'


def test_copied_times_do_not_hide_a_change(root):
  names(root)
  before = os.stat(root / 'a')
  (root / 'a' / '000.png').rename(root / 'a' / 'new.png')
  os.utime(root / 'a', ns=(before.st_atime_ns, before.st_mtime_ns))
  assert 'new.png' in names(root)


def test_directory_that_may_still_change_is_not_kept(root, monkeypatch):
  monkeypatch.setattr(cached_listing, '_SETTLED_SECONDS', 2)
  names(root)
  assert not (root.parent / 'cache').exists()


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 damaged', None])
def test_damaged_or_unwritable_cache_is_no_obstacle(root, content):
  found = names(root)
  (path,) = (root.parent / 'cache' / 'folders').iterdir()
  path.unlink()
  if content is None:
    path.mkdir()
  else:
    path.write_bytes(content)
  assert names(root) == found


def test_a_file_takes_a_few_bytes_more_than_its_name(tmp_path):
  """So that ImageNet fits into each worker process."""
  count = 3000
  for folder in ('n01440764', 'n02102040'):
    (tmp_path / folder).mkdir()
    first = tmp_path / folder / f'{folder}_0.JPEG'
    first.touch()
    for i in range(1, count):
      os.link(first, tmp_path / folder / f'{folder}_{i}.JPEG')
  size = len(pickle.dumps(FolderSource(str(tmp_path), 'all')))
  assert size / (2 * count) < len(f'{folder}_0000.JPEG') + 24
