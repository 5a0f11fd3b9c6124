"""Checks of disk space and locks of directories of data sets."""

from types import SimpleNamespace

import pytest

from convmixer_jax.data.prepare import disk
from convmixer_jax.errors import UserError


def test_too_little_space_is_reported_with_both_sizes(tmp_path, monkeypatch):
  monkeypatch.setattr(
    disk.shutil, 'disk_usage', lambda _: SimpleNamespace(free=10_000_000)
  )
  disk.check_space(tmp_path, 9_000_000)
  with pytest.raises(UserError, match=r'10.0 MB free, but 154.6 GB'):
    disk.check_space(tmp_path, 151_600_000_000)


def test_only_one_process_can_lock_a_directory(tmp_path):
  with (
    disk.locked(tmp_path / 'set'),
    pytest.raises(UserError, match='is in use by process'),
    disk.locked(tmp_path / 'set'),
  ):
    pass
  with disk.locked(tmp_path / 'set'):
    pass


def test_a_file_as_data_dir_is_refused(tmp_path):
  (tmp_path / 'file').touch()
  with (
    pytest.raises(UserError, match=r'\(Not a directory\); make room'),
    disk.locked(tmp_path / 'file' / 'imagenet2012'),
  ):
    pass


def test_failed_download_leaves_complete_archives_only(tmp_path):
  downloads = tmp_path / 'downloads'
  with pytest.raises(KeyError), disk.incomplete_downloads_removed(downloads):
    (downloads / 'cifar10').mkdir()
    (downloads / 'extracted').mkdir()
    (downloads / 'whole.tar').touch()
    (downloads / 'cifar10' / 'x.tar.gz.tmp.1f2e').mkdir()
    (downloads / 'cifar10' / 'x.tar.gz.tmp.1f2e' / 'part').touch()
    raise KeyError
  assert [path.name for path in downloads.rglob('*')] == ['whole.tar']
