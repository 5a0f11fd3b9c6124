"""The wheel holds all that a command needs, wherever it is started."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
pytestmark = pytest.mark.slow

PIP = (sys.executable, '-m', 'pip', '--disable-pip-version-check')
_PARTS = ('convmixer_jax', 'configs')
_FILES = ('pyproject.toml', 'setup.py', 'requirements.txt', 'LICENSE')


def run(*command, cwd):
  done = subprocess.run(
    command,
    cwd=cwd,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
  directory = tmp_path_factory.mktemp('wheel')
  source = directory / 'source'
  for name in _PARTS:
    shutil.copytree(
      ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__')
    )
  for name in _FILES:
    shutil.copy(ROOT / name, source / name)
  run(
    *(*PIP, 'wheel', '--no-deps', '--no-build-isolation', '--quiet'),
    *('--wheel-dir', directory, source),
    cwd=directory,
  )
  (path,) = directory.glob('*.whl')
  return path


def test_wheel_holds_package_configs_and_sources(wheel):
  held = set(zipfile.ZipFile(wheel).namelist())
  for path in (ROOT / 'convmixer_jax').rglob('*'):
    if path.suffix in ('.py', '.cc', '.h'):
      assert path.relative_to(ROOT).as_posix() in held
  for path in (ROOT / 'configs').glob('*.py'):
    assert f'convmixer_jax/configs/{path.name}' in held
  assert not any(name.startswith(('tests/', 'configs/')) for name in held)


@pytest.fixture(scope='module')
def site(wheel, tmp_path_factory):
  """A directory with the installed package, away from the checkout."""
  directory = tmp_path_factory.mktemp('site')
  run(
    *(*PIP, 'install', '--quiet', '--no-deps', '--no-compile'),
    *('--target', directory, wheel),
    cwd=directory,
  )
  return directory


def convmixer(site, *arguments, cwd, **environment):
  """Runs the console command, as from a directory of the user's own."""
  return subprocess.run(
    [sys.executable, site / 'bin' / 'convmixer', *arguments],
    cwd=cwd,
    env=os.environ
    | {'PYTHONPATH': str(site), 'JAX_PLATFORMS': 'cpu'}
    | environment,
    capture_output=True,
    text=True,
    check=False,
  )


def test_installed_command_trains_digits_from_any_directory(site, tmp_path):
  done = convmixer(
    site,
    *('train', '--config=digits', '--workdir=run'),
    *('--config.num_epochs=2', '--config.eval_every_epochs=2'),
    cwd=tmp_path,
    CONVMIXER_JAX_CACHE=str(tmp_path / 'cache'),  # so the sources are compiled
  )
  assert done.returncode == 0, done.stderr
  assert 'eval_accuracy = 0.' in done.stdout
  assert 'kernels are not used' not in done.stderr
  assert (tmp_path / 'run' / 'metrics.csv').exists()
  assert any((tmp_path / 'cache').rglob('*.so'))


@pytest.mark.parametrize('name', ['cifar10', 'finetune:768_32', 'imagenet'])
def test_installed_configs_are_read_by_name(site, tmp_path, name):
  done = convmixer(
    site, 'train', f'--config={name}', '--workdir=run', '--config.seed=-1',
    cwd=tmp_path,
  )  # fmt: skip
  assert done.returncode == 1
  assert done.stderr.startswith('error: config.seed = -1 is not')


def test_installed_package_lists_its_configs(site, tmp_path):
  done = convmixer(site, 'train', '--config=none', '--workdir=r', cwd=tmp_path)
  assert done.returncode == 1
  assert (
    'cifar10, default, digits, finetune, folder, imagenet, patches'
    in done.stderr
  )


def test_device_benchmark_of_installed_package_finds_its_files(site, tmp_path):
  script = """
from convmixer_jax import config_files
from convmixer_jax.benchmarks.device import cifar10_stage, input_pass, wheels
print(sorted(wheels.find_needed('3.12')))
print(config_files.load('cifar10').dataset.name)
"""
  done = subprocess.run(
    [sys.executable, '-c', script],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(site)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  needed, name = done.stdout.splitlines()
  assert "'orbax-checkpoint'" in needed
  assert "'gcsfs'" not in needed  # of an extra
  assert name == 'cifar10'
