"""Room and locks where sets are made."""

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


def test_second_process_is_refused_while_a_set_is_prepared(tmp_path):
  with (
    disk.locked(tmp_path / 'set'),
    pytest.raises(UserError, match='another process is at work'),
    disk.locked(tmp_path / 'set'),
  ):
    pass
  with disk.locked(tmp_path / 'set'):
    pass


def test_file_as_data_dir_is_refused(tmp_path):
  (tmp_path / 'file').touch()
  with (
    pytest.raises(UserError, match='Not a directory; choose another'),
    disk.locked(tmp_path / 'file' / 'imagenet2012'),
  ):
    pass
