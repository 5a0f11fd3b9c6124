"""Paths given by users, local or in a bucket."""

import importlib.util
import pathlib

import pytest
from etils import epath

from convmixer_jax import files
from convmixer_jax.bucket_access import check_access
from convmixer_jax.errors import UserError


@pytest.fixture
def gcsfs_is_installed(monkeypatch):
  """Pretends that gcsfs is installed; no bucket is accessed."""
  find_spec = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    'find_spec',
    lambda name: True if name == 'gcsfs' else find_spec(name),
  )
  monkeypatch.setattr(files, '_configure_clients', lambda: None)


def test_local_paths_become_absolute_and_buckets_are_unchanged(
  tmp_path, monkeypatch, gcsfs_is_installed
):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', '/home/user')
  for given, expected in {
    'runs/one': tmp_path.resolve() / 'runs' / 'one',
    '~/runs': pathlib.Path('/home/user/runs'),
    pathlib.Path('runs'): tmp_path.resolve() / 'runs',
    '/a/../b': pathlib.Path('/b'),
    'a:b': tmp_path.resolve() / 'a:b',
  }.items():
    path = files.absolute_path(given)
    assert str(path) == str(expected)
    assert not files.is_in_bucket(path)
  path = files.absolute_path('gs://bucket/run/')
  assert str(path) == 'gs://bucket/run'
  assert files.is_in_bucket(path / 'metrics.csv')


@pytest.mark.parametrize(
  ('path', 'message'),
  [
    ('', 'the name of a directory is empty'),
    (5, 'is 5, a int; give a string or a path'),
    ('s3://bucket/run', 's3://bucket/run is neither local nor in a bucket of'),
    ('https://host/run', 'is neither local nor in a bucket of Google Cloud'),
    ('gs://', 'gs:// does not name a bucket; give gs://BUCKET/NAME'),
    ('gs:///run', 'does not name a bucket'),
    ('gs:/bucket/run', 'does not name a bucket'),
  ],
)
def test_other_locations_are_refused(path, message, gcsfs_is_installed):
  with pytest.raises(UserError, match=message):
    files.absolute_path(path)


def test_bucket_without_gcsfs_is_reported_with_the_command_to_install_it(
  monkeypatch,
):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(UserError) as error:
    files.absolute_path('gs://bucket/run')
  assert str(error.value) == (
    'gs://bucket/run needs gcsfs; install it: pip install '
    "'convmixer-jax[gcs]', or, in a checkout, pip install '.[gcs]'"
  )


def test_only_local_paths_pass_require_local():
  for path in (None, '', 'data', '/data'):
    assert files.require_local(path, 'data_dir') == path
  with pytest.raises(UserError, match='data_dir gs://bucket/data is not on'):
    files.require_local('gs://bucket/data', 'data_dir')


def test_local_paths_need_no_access_check(tmp_path):
  check_access(epath.Path(tmp_path) / 'missing', writes=True)
  assert list(tmp_path.iterdir()) == []


def test_files_are_listed_relative_to_the_directory(tmp_path):
  for name in ('a', 'b/c', 'b/d/e'):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  (tmp_path / 'empty').mkdir()
  assert set(files.list_files(epath.Path(tmp_path))) == {'a', 'b/c', 'b/d/e'}
