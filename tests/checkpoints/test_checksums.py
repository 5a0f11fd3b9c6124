"""Checksums of a checkpoint's files: every kind of damage is found."""

import shutil
import subprocess

import pytest
from etils import epath

from convmixer_jax.checkpoints import checksums

FILES = {'state/d/0': b'weights' * 100, 'state/index': b'{}', 'metrics/m': b''}


@pytest.fixture
def directory(tmp_path):
  for name, data in FILES.items():
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(data)
  (tmp_path / 'of_orbax').write_text('changes until the end')
  checksums.write(epath.Path(tmp_path))
  return tmp_path


def find(directory, item=''):
  return checksums.find_damage(epath.Path(directory), item)


def flip(path, bit):
  data = bytearray(path.read_bytes())
  data[bit // 8] ^= 1 << bit % 8
  path.write_bytes(bytes(data))


def test_undamaged_checkpoint_passes(directory):
  assert find(directory) is None
  (directory / 'of_orbax').write_text('and changed')
  assert find(directory) is None


def test_sha256sum_accepts_the_file(directory):
  if not shutil.which('sha256sum'):
    pytest.skip('there is no sha256sum')
  check = ['sha256sum', '--check', '--quiet', 'SHA256SUMS']
  assert subprocess.run(check, cwd=directory, check=False).returncode == 0
  flip(directory / 'state/d/0', 7)
  done = subprocess.run(check, cwd=directory, check=False, capture_output=True)
  assert done.returncode == 1


def test_flipped_bit_is_found(directory):
  flip(directory / 'state/d/0', 2001)
  assert find(directory) == 'state/d/0 has changed since it was written'
  assert find(directory, 'state/') == find(directory)
  assert find(directory, 'metrics/') is None
  flip(directory / 'state/d/0', 2001)
  assert find(directory) is None


def test_truncated_missing_and_added_files_are_found(directory):
  (directory / 'state/d/0').write_bytes(FILES['state/d/0'][:-1])
  assert find(directory) == 'state/d/0 has changed since it was written'
  (directory / 'state/d/0').unlink()
  assert find(directory) == 'state/d/0 is missing'
  shutil.rmtree(directory / 'state')
  assert find(directory) == 'state/d/0 is missing'
  (directory / 'metrics/x').touch()
  assert find(directory) == 'metrics/x is not in its SHA256SUMS'


def test_damaged_checksum_file_is_found(directory):
  path = directory / 'SHA256SUMS'
  text = path.read_bytes()
  for bit in range(0, 8 * len(text), 97):
    flip(path, bit)
    assert find(directory), f'bit {bit}'
    path.write_bytes(text)
  for length in range(0, len(text) - 1, 13):
    path.write_bytes(text[:length])
    assert find(directory), f'{length} bytes'
  path.unlink()
  assert find(directory) == 'SHA256SUMS is missing'
