"""Checksums of a checkpoint's files, because its format has none for arrays.

Orbax's OCDBT files check their index but not the arrays: a bit that flips there
comes back as another weight, without a word. So every checkpoint has a file
that `sha256sum --check SHA256SUMS` understands.
"""

import concurrent.futures
import hashlib

from etils import epath

from convmixer_jax import files

_NAME = 'SHA256SUMS'
_CHUNK = 2**24  # bytes


def write(directory: epath.Path) -> None:
  """Writes the checksums of all files below `directory`, but not in it itself.

  The files right in it are Orbax's, which changes them until the end.
  """
  sums = _checksums(directory, sorted(_files(directory)))
  lines = [f'{checksum}  {name}\n' for name, checksum in sums.items()]
  files.write(directory / _NAME, ''.join(lines))


def find_damage(directory: epath.Path, item: str = '') -> str | None:
  """Compares the files with their checksums.

  Args:
    directory: of a checkpoint.
    item: the part of it to look at; '' for all.

  Returns:
    What is wrong, or None. A checkpoint without checksums is taken for whole.
  """
  try:
    text = (directory / _NAME).read_text()
  except FileNotFoundError:
    return None  # written before there were any
  except (OSError, UnicodeDecodeError) as error:
    return f'{_NAME} cannot be read: {error}'
  written = {}
  for line in text.splitlines():
    checksum, _, name = line.partition('  ')
    if name.startswith(item):
      written[name] = checksum
  there = {name for name in _files(directory) if name.startswith(item)}
  for name in sorted(written.keys() ^ there):
    if name in there:
      return f'{name} is not in its {_NAME}'
    return f'{name} is missing'
  try:
    found = _checksums(directory, sorted(there))
  except OSError as error:
    return f'a file cannot be read: {error}'
  for name, checksum in written.items():
    if found[name] != checksum:
      return f'{name} has changed since it was written'
  return None


def _files(directory: epath.Path) -> set[str]:
  """Returns the files of the items, but not those right in the directory."""
  return {name for name in files.list_files(directory) if '/' in name}


def _checksums(directory: epath.Path, names: list[str]) -> dict[str, str]:
  with concurrent.futures.ThreadPoolExecutor() as executor:
    sums = executor.map(lambda name: _sha256(directory / name), names)
    return dict(zip(names, sums, strict=True))


def _sha256(path: epath.Path) -> str:
  digest = hashlib.sha256()
  with path.open('rb') as file:
    while chunk := file.read(_CHUNK):
      digest.update(chunk)
  return digest.hexdigest()
