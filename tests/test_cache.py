"""The compilation cache: its directory, and that a second start uses it."""

import os
import pathlib
import pwd
import subprocess
import sys
import tempfile
import types
import warnings

import pytest

from convmixer_jax import cache, notes

ROOT = pathlib.Path(__file__).parents[1]


def fake_jax(directory):
  config = types.SimpleNamespace(jax_compilation_cache_dir=str(directory))
  return types.SimpleNamespace(config=config)


def test_cache_directory_follows_xdg(monkeypatch, tmp_path):
  monkeypatch.delenv('CONVMIXER_JAX_CACHE', raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  assert cache.cache_dir() == tmp_path / 'convmixer_jax'
  monkeypatch.setenv('XDG_CACHE_HOME', '')
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  assert cache.cache_dir() == tmp_path / 'home/.cache/convmixer_jax'


def _no_entry(*_):
  raise KeyError('getpwuid(): uid not found')


def _without_home(monkeypatch, tmp_path):
  monkeypatch.delenv('HOME', raising=False)
  monkeypatch.setattr(pwd, 'getpwuid', _no_entry)


def _home_that_is_a_file(monkeypatch, tmp_path):
  (tmp_path / 'home').touch()
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))


def _cache_of_another_user(monkeypatch, tmp_path):
  monkeypatch.setenv('CONVMIXER_JAX_CACHE', str(tmp_path / 'theirs'))
  (tmp_path / 'theirs').mkdir()
  access = os.access
  monkeypatch.setattr(
    os,
    'access',
    lambda path, mode: 'theirs' not in str(path) and access(path, mode),
  )


@pytest.mark.parametrize(
  'prepare', [_without_home, _home_that_is_a_file, _cache_of_another_user]
)
def test_cache_moves_to_a_private_temporary_directory(
  prepare, monkeypatch, tmp_path, capsys
):
  for name in ('CONVMIXER_JAX_CACHE', 'XDG_CACHE_HOME'):
    monkeypatch.delenv(name, raising=False)
  temporary = tmp_path / 'tmp'
  temporary.mkdir()
  monkeypatch.setattr(tempfile, 'tempdir', str(temporary))
  monkeypatch.setattr(notes, '_said', set())
  prepare(monkeypatch, tmp_path)
  directory = cache.cache_dir()
  assert directory.parent == temporary
  assert directory.stat().st_mode & 0o777 == 0o700
  assert cache.cache_dir() == directory
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('Note: ') and '$CONVMIXER_JAX_CACHE' in line


def test_temporary_directory_that_others_may_write_is_not_used(
  monkeypatch, tmp_path
):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  (tmp_path / f'convmixer_jax_{os.getuid()}').mkdir(mode=0o777)
  (tmp_path / f'convmixer_jax_{os.getuid()}').chmod(0o777)
  assert cache._temporary() is None


@pytest.mark.slow
def test_second_start_compiles_nothing(tmp_path):
  environment = os.environ | {
    'CONVMIXER_JAX_CACHE': str(tmp_path / 'cache'),
    'JAX_PLATFORMS': 'cpu',
  }
  environment.pop('JAX_COMPILATION_CACHE_DIR', None)
  kept = []
  for run in ('first', 'second'):
    subprocess.run(
      [
        *[sys.executable, 'train.py', '--config=configs/digits.py'],
        f'--workdir={tmp_path / run}',
        *['--config.num_epochs=1', '--config.model.width=8'],
        *['--config.model.depth=2', '--config.model.kernel_size=3'],
      ],
      cwd=ROOT,
      env=environment,
      check=True,
      capture_output=True,
    )
    (directory,) = (tmp_path / 'cache').glob('xla_*')
    # Every program is stored, however short its compilation.
    kept.append({file.name for file in directory.glob('*-cache')})
  assert len(kept[0]) > 2
  assert kept[1] == kept[0]


def test_cache_directory_of_the_user_is_kept(tmp_path):
  code = (
    'import jax\n'
    'from convmixer_jax.cache import enable_compilation_cache\n'
    'enable_compilation_cache()\n'
    'print(jax.config.jax_compilation_cache_dir)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    env=os.environ | {'JAX_COMPILATION_CACHE_DIR': str(tmp_path)},
    check=True,
    capture_output=True,
    text=True,
  )
  assert done.stdout.strip() == str(tmp_path)


def test_damaged_and_unwritable_entries_are_reported_in_one_line(
  tmp_path, monkeypatch, capsys
):
  others = []
  monkeypatch.setattr(
    warnings, 'showwarning', lambda message, *_: others.append(str(message))
  )
  monkeypatch.setattr(cache, 'jax', fake_jax(tmp_path))
  for name in ('jit_step-1-cache', 'jit_step-2-cache', 'jit_other-1-cache'):
    (tmp_path / name).touch()
  cache.enable_compilation_cache()
  cache.enable_compilation_cache()
  start = 'Error {} persistent compilation cache entry for {!r}: error: bad'
  for kind in ('reading', 'writing'):
    for name in ('jit_step', 'jit_step', 'jit_missing'):
      warnings.showwarning(start.format(kind, name), UserWarning, 'a.py', 1)
  warnings.showwarning('Something else', UserWarning, 'a.py', 1)
  assert [path.name for path in tmp_path.iterdir()] == ['jit_other-1-cache']
  first, second = capsys.readouterr().err.splitlines()
  assert first == (
    f'Note: compiled programs in {tmp_path} are damaged; they are compiled '
    'again'
  )
  assert second.startswith('Note: compiled programs cannot be kept in ')
  assert others == ['Something else']


@pytest.mark.slow
def test_damaged_entries_are_replaced(tmp_path):
  """By JAX itself: what it warns of, and what it does then."""
  code = (
    'from convmixer_jax.cache import enable_compilation_cache\n'
    'enable_compilation_cache()\n'
    'import jax\n'
    'print(jax.jit(lambda x: x + 1)(1.0))\n'
  )
  errors = []
  for _ in range(3):
    done = subprocess.run(
      [sys.executable, '-c', code],
      cwd=ROOT,
      env=os.environ
      | {'CONVMIXER_JAX_CACHE': str(tmp_path), 'JAX_PLATFORMS': 'cpu'},
      check=True,
      capture_output=True,
      text=True,
    )
    assert done.stdout == '2.0\n'
    errors.append(done.stderr)
    if len(errors) == 1:
      for path in tmp_path.glob('xla_*/*-cache'):
        path.write_bytes(path.read_bytes()[:-9])
  assert errors[0] == errors[2] == ''
  assert errors[1].startswith('Note: compiled programs in ')
  assert errors[1].count('\n') == 1
