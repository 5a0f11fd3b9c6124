"""Collection of the wheels that another machine lacks."""

import subprocess
import sys

import pytest

from convmixer_jax.benchmarks.device import wheels
from convmixer_jax.errors import UserError


def test_lists_of_pip_and_of_names_are_read(tmp_path):
  path = tmp_path / 'installed.txt'
  path.write_text('Flax==0.12.1\nopt_einsum\n\nlocal @ file:///tmp/local\n')
  assert wheels.read_installed(str(path)) == {
    'flax': '0.12.1',
    'opt-einsum': '',
    'local': '',
  }


@pytest.mark.parametrize('text', ['', 'flax 0.12\n', 'flax>=1\n'])
def test_invalid_lists_are_refused(tmp_path, text):
  path = tmp_path / 'installed.txt'
  path.write_text(text)
  with pytest.raises(UserError, match='--installed'):
    wheels.read_installed(str(path))


def test_missing_list_is_refused(tmp_path):
  with pytest.raises(UserError, match='cannot be read'):
    wheels.read_installed(str(tmp_path / 'none.txt'))


def test_indirect_dependencies_are_needed():
  needed = wheels.find_needed('3.12')
  assert {'flax', 'grain', 'ml-dtypes', 'six'} <= set(needed)
  assert {'pytest', 'pluggy', 'iniconfig'} <= set(needed)
  assert 'sphinx' not in needed  # an extra of many, a requirement of none


def test_only_missing_packages_are_downloaded(tmp_path, monkeypatch):
  needed = {'flax': '0.12.1', 'clu': '0.0.12', 'promise': '2.3'}
  monkeypatch.setattr(wheels, 'find_needed', lambda _: needed)
  commands = []

  def pip(command, **_):
    commands.append(command)
    name, _, version = command[-1].partition('==')
    builds = 'wheel' in command
    if name == 'promise' and not builds:
      return subprocess.CompletedProcess(command, 1, '', 'no wheel')
    (tmp_path / 'wheels' / f'{name}-{version}-py3-none-any.whl').write_bytes(
      b'0' * 2**20
    )
    return subprocess.CompletedProcess(command, 0, '', '')

  monkeypatch.setattr(subprocess, 'run', pip)
  installed = tmp_path / 'installed.txt'
  installed.write_text('flax==0.1\n')
  text = wheels.collect(tmp_path / 'wheels', str(installed), '3.12')
  assert '3 packages are needed, 2 of them are missing' in text
  assert '1.00 MiB  promise-2.3-py3-none-any.whl' in text
  assert '2.00 MiB  in total' in text
  assert 'not tested: flax 0.1' in text
  assert '--target=SITE wheels/*.whl' in text
  assert commands[0][:3] == [sys.executable, '-m', 'pip']
  assert '3.12' in commands[0]


def test_package_that_cannot_be_downloaded_is_reported(tmp_path, monkeypatch):
  monkeypatch.setattr(wheels, 'find_needed', lambda _: {'clu': '0.0.12'})
  failed = subprocess.CompletedProcess([], 1, '', 'ERROR: no network\n')
  monkeypatch.setattr(subprocess, 'run', lambda *_, **__: failed)
  installed = tmp_path / 'installed.txt'
  installed.write_text('flax\n')
  with pytest.raises(UserError, match=r'clu==0.0.12 has no wheel.*no network'):
    wheels.collect(tmp_path / 'wheels', str(installed), '3.12')


def test_directory_with_files_is_refused(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='has files in it'):
    wheels.collect(tmp_path, None, '3.12')
