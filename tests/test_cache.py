"""The compilation cache: its directory, and that a second start uses it."""

import os
import pathlib
import subprocess
import sys

import pytest

from convmixer_jax import cache

ROOT = pathlib.Path(__file__).parents[1]


def test_cache_directory_follows_xdg(monkeypatch):
  monkeypatch.delenv('CONVMIXER_JAX_CACHE', raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', '/somewhere')
  assert cache.cache_dir() == pathlib.Path('/somewhere/convmixer_jax')
  monkeypatch.setenv('XDG_CACHE_HOME', '')
  assert cache.cache_dir() == pathlib.Path.home() / '.cache/convmixer_jax'


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
