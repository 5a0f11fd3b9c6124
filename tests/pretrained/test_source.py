"""The spelling of where a trained network is."""

import pytest

from convmixer_jax.errors import UserError
from convmixer_jax.pretrained.source import (
  FileSource,
  HubSource,
  RunSource,
  parse_source,
)


def make_run(path):
  (path / 'checkpoints' / '330').mkdir(parents=True)
  (path / 'config.json').write_text('{}')


@pytest.fixture
def root(tmp_path, monkeypatch):
  """Directories and files, in the working directory."""
  monkeypatch.chdir(tmp_path)
  for name in ('run', 'run@best', 'me@home/run'):
    make_run(tmp_path / name)
  (tmp_path / 'started').mkdir()
  (tmp_path / 'started' / 'config.json').write_text('{}')
  (tmp_path / 'weights').mkdir()
  (tmp_path / 'weights' / 'model.safetensors').write_text('')
  (tmp_path / 'weights' / 'config.json').write_text('{}')
  (tmp_path / 'x@1.pth').write_text('')
  (tmp_path / 'link.safetensors').symlink_to(
    tmp_path / 'weights' / 'model.safetensors'
  )
  (tmp_path / 'empty').mkdir()
  return tmp_path


@pytest.mark.parametrize(
  ('source', 'repository', 'revision'),
  [
    ('hf://timm/x.in1k', 'timm/x.in1k', None),
    ('hf://timm/x@v1.0', 'timm/x', 'v1.0'),
    ('hf://timm/x@refs/pr/1', 'timm/x', 'refs/pr/1'),
  ],
)
def test_repository_and_revision_are_read(source, repository, revision):
  found = parse_source(source)
  assert found == HubSource(repository, revision)
  assert str(found) == source


@pytest.mark.parametrize(
  ('source', 'workdir', 'name', 'checkpoint'),
  [
    ('run', 'run', 'run', None),
    ('./run/', 'run', './run/', None),
    ('run@330', 'run', 'run', 330),
    ('run@newest', 'run', 'run', 'newest'),
    ('run@330/', 'run', 'run', 330),
    ('run@best@best', 'run@best', 'run@best', 'best'),
    ('run@best', 'run@best', 'run@best', None),  # it exists as it is written
    ('run/checkpoints/330', 'run', 'run', 330),
    ('run@best/checkpoints/330', 'run@best', 'run@best', 330),
    ('run/checkpoints/330/', 'run', 'run', 330),
    ('run/checkpoints/4', 'run', 'run', 4),  # reading it reports what is there
    ('run@4', 'run', 'run', 4),
    ('me@home/run', 'me@home/run', 'me@home/run', None),
    ('me@home/run@best', 'me@home/run', 'me@home/run', 'best'),
    ('started', 'started', 'started', None),
  ],
)
def test_run_directory_is_parsed(root, source, workdir, name, checkpoint):
  workdir = root / workdir
  for prefix in ('', f'{root}/'):
    expected = RunSource(workdir, f'{prefix}{name}', checkpoint)
    assert parse_source(f'{prefix}{source}') == expected


def test_checkpoint_is_read_from_within_its_run(root, monkeypatch):
  monkeypatch.chdir(root / 'run' / 'checkpoints')
  expected = RunSource(root / 'run', str(root / 'run'), 330)
  assert parse_source('330') == expected


@pytest.mark.parametrize(
  ('source', 'path'),
  [
    ('x@1.pth', 'x@1.pth'),
    ('weights', 'weights/model.safetensors'),
    ('weights/model.safetensors', 'weights/model.safetensors'),
    ('link.safetensors', 'link.safetensors'),
  ],
)
def test_weights_are_found(root, source, path):
  assert parse_source(source) == FileSource(root / path)


def test_path_and_link_to_a_checkpoint_are_parsed(root):
  assert parse_source(root / 'run') == RunSource(
    root / 'run', str(root / 'run'), None
  )
  (root / 'chosen').symlink_to(root / 'run' / 'checkpoints' / '330')
  assert parse_source('chosen') == RunSource(
    root / 'run', str(root / 'run'), 330
  )


def test_home_directory_is_expanded(root, monkeypatch):
  monkeypatch.setenv('HOME', str(root))
  assert parse_source('~/run@330') == RunSource(root / 'run', '~/run', 330)
  assert parse_source('~/x@1.pth') == FileSource(root / 'x@1.pth')


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    ('', 'the source is empty; give a run directory, a file of weights or'),
    (3, 'the source is a int, not a string or a path; give a run directory'),
    (None, 'the source is a NoneType, not a string or a path; give a run'),
    ('run@\u00b2', "'\u00b2' is not a checkpoint; give run@STEP"),
    ('run@\u0663', "'\u0663' is not a checkpoint; give run@STEP"),
    (f'run@{10**18}', "'10+' is not a checkpoint; give run@STEP"),
    ('hf://timm', 'hf://timm is not a repository; give hf://OWNER/NAME or '),
    ('s3://bucket/run', 's3://bucket/run is neither local nor in a bucket of'),
    ('none', 'there is no file or directory none; give a run directory, a '),
    ('none@best', 'no file or directory none@best, and no run none; give a '),
    ('me@home/none', 'there is no file or directory me@home/none; give a run'),
    ('none/checkpoints/330', 'no file or directory none/checkpoints/330; give'),
    ('run/checkpoints', 'run/checkpoints is neither a run .* nor weights .it '),
    ('empty', 'empty is neither a run .it has no config.json. nor weights '),
    ('empty@best', "empty is not a run directory, so it has no checkpoint 'be"),
    ('run@', "run@: '' is not a checkpoint; give run@STEP, run@best or run@n"),
    ('run@last', "run@last: 'last' is not a checkpoint; give run@STEP, "),
    ('run@-1', "run@-1: '-1' is not a checkpoint; give run@STEP, "),
    ('weights@best', 'weights is not a run directory, so it has no .*; leave '),
    ('x@1.pth@330', 'x@1.pth is not a run directory, so it has no .*; leave '),
    ('run/checkpoints/330@best', 'run/checkpoints/330 is not a run directory'),
  ],
)
def test_anything_else_is_refused_in_one_line(root, source, message):
  with pytest.raises(UserError, match=message) as error:
    parse_source(source)
  assert '\n' not in str(error.value)
