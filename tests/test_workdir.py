"""The directory of a run; what is refused in one is in test_loop.py."""

import pathlib

from convmixer_jax.training import workdir


def test_absolute_path(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', '/home/user')
  for given, expected in {
    'runs/one': tmp_path.resolve() / 'runs' / 'one',
    '~/runs': pathlib.Path('/home/user/runs'),
    '/a/../b': pathlib.Path('/b'),
  }.items():
    assert str(workdir.absolute_path(given)) == str(expected)
  assert str(workdir.absolute_path('gs://bucket/run')) == 'gs://bucket/run'
