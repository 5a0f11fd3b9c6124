"""Directories that are made, and removed if they stay empty."""

import pytest
from etils import epath

from convmixer_jax.locks.made_directory import made_directory


def test_directory_that_stays_empty_is_removed_with_those_made_for_it(tmp_path):
  with made_directory(epath.Path(tmp_path) / 'a' / 'b'):
    assert (tmp_path / 'a' / 'b').is_dir()
  assert not list(tmp_path.iterdir())
  with made_directory(epath.Path(tmp_path) / 'a' / 'b'):
    (tmp_path / 'a' / 'file').touch()
  assert {path.name for path in tmp_path.rglob('*')} == {'a', 'file'}
  (tmp_path / 'empty').mkdir()
  with made_directory(epath.Path(tmp_path) / 'empty'):
    pass
  assert (tmp_path / 'empty').is_dir()  # it was there before


def test_directories_that_cannot_all_be_made_are_removed(tmp_path):
  with (
    pytest.raises(OSError, match='too long'),
    made_directory(epath.Path(tmp_path) / 'a' / ('b' * 300)),
  ):
    pass
  assert not list(tmp_path.iterdir())
