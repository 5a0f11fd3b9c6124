"""Names that libraries take for something else."""

import pytest
from etils import epath

from convmixer_jax import files
from convmixer_jax.errors import UserError


@pytest.mark.parametrize('name', ['lr[0.1]', 'x*?{y}', '**', 'a b', '%41'])
def test_glob_takes_only_its_argument_for_a_pattern(tmp_path, name):
  directory = epath.Path(tmp_path) / name
  (directory / 'part_1' / 'd').mkdir(parents=True)
  (tmp_path / 'other').mkdir()
  assert list(directory.glob('part_*')) == [directory / 'part_1']
  assert list(directory.glob('part_*/d')) == [directory / 'part_1' / 'd']
  assert isinstance(next(directory.glob('*')), type(directory))


@pytest.mark.parametrize('path', ['gs://bucket/a', 's3://bucket/a'])
def test_glob_of_buckets_is_left_to_etils(path, monkeypatch):
  directory = epath.Path(path)
  patterns = []
  monkeypatch.setattr(
    type(directory).__mro__[1],
    'glob',
    lambda self, pattern: patterns.append((self, pattern)) or iter(()),
  )
  assert list(directory.glob('x*')) == []
  assert patterns == [(directory, 'x*')]


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('a\\b', 'has a backslash'),
    ('a\nb', 'has a line break'),
    (b'a\xff'.decode(errors='surrogateescape'), 'bytes that are not UTF-8'),
  ],
)
def test_names_that_a_library_misreads_are_refused(tmp_path, name, message):
  for check in (
    files.absolute_path,
    lambda path: files.require_local(path, '--data_dir'),
  ):
    with pytest.raises(UserError, match=message) as error:
      check(str(tmp_path / name))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('scheme', ['gs', 's3', 'az', 'hf'])
def test_directory_at_the_root_that_a_library_takes_for_a_bucket_is_refused(
  scheme,
):
  with pytest.raises(UserError, match=f'takes for the bucket {scheme}://; mou'):
    files.absolute_path(f'/{scheme}/runs/1')
  assert str(files.absolute_path(f'/mnt/{scheme}/1')) == f'/mnt/{scheme}/1'


@pytest.mark.parametrize('name', ['lr[0.1]', 'a*', 'a?b', 'a#1'])
def test_patterns_in_buckets_are_refused(name):
  with pytest.raises(UserError, match='a pattern or a version for Google'):
    files.absolute_path(f'gs://bucket/{name}')
