"""Room and locks where sets are made."""

from types import SimpleNamespace

import pytest

from convmixer_jax.data.prepare import disk
from convmixer_jax.errors import UserError


def test_too_little_room_is_told_with_both_figures(tmp_path, monkeypatch):
  monkeypatch.setattr(
    disk.shutil, 'disk_usage', lambda _: SimpleNamespace(free=10_000_000)
  )
  disk.check_space(tmp_path, 9_000_000)
  with pytest.raises(UserError, match=r'10.0 MB free, but 154.6 GB'):
    disk.check_space(tmp_path, 151_600_000_000)


def test_only_one_process_makes_a_set(tmp_path):
  with (
    disk.locked(tmp_path / 'set'),
    pytest.raises(UserError, match='another process is at work'),
    disk.locked(tmp_path / 'set'),
  ):
    pass
  with disk.locked(tmp_path / 'set'):
    pass


def test_a_data_dir_that_cannot_be_one(tmp_path):
  (tmp_path / 'file').touch()
  with (
    pytest.raises(UserError, match='Not a directory; choose another'),
    disk.locked(tmp_path / 'file' / 'imagenet2012'),
  ):
    pass
