"""SHA-256 checksums of the files of a checkpoint.

Orbax's OCDBT files check their index but not the arrays: a flipped bit would be
read as another weight, without an error. So every checkpoint has a file that
`sha256sum --check SHA256SUMS` understands.
"""

import concurrent.futures
import hashlib

from etils import epath

from convmixer_jax import files

_NAME = 'SHA256SUMS'
_CHUNK = 2**24  # bytes


def write(directory: epath.Path) -> None:
  """Writes the checksums of all files in subdirectories of `directory`.

  The files directly in it are left out: Orbax changes them until it commits.
  """
  sums = _checksums(directory, sorted(_files(directory)))
  lines = [f'{checksum}  {name}\n' for name, checksum in sums.items()]
  files.write(directory / _NAME, ''.join(lines))


def exist(directory: epath.Path) -> bool:
  """Whether a checkpoint has its checksums."""
  return (directory / _NAME).exists()


def find_damage(directory: epath.Path, item: str = '') -> str | None:
  """Compares the files with their checksums.

  Args:
    directory: of a checkpoint.
    item: prefix of the files to check; '' for all.

  Returns:
    What is wrong, or None.
  """
  try:
    text = (directory / _NAME).read_text()
  except FileNotFoundError:
    return f'{_NAME} is missing'
  except (OSError, UnicodeDecodeError) as error:
    return f'{_NAME} cannot be read: {error}'
  written = {}
  for line in text.splitlines():
    checksum, _, name = line.partition('  ')
    if name.startswith(item):
      written[name] = checksum
  existing = {name for name in _files(directory) if name.startswith(item)}
  for name in sorted(written.keys() ^ existing):
    if name in existing:
      return f'{name} is not in its {_NAME}'
    return f'{name} is missing'
  try:
    found = _checksums(directory, sorted(existing))
  except OSError as error:
    return f'a file cannot be read: {error}'
  for name, checksum in written.items():
    if found[name] != checksum:
      return f'{name} has changed since it was written'
  return None


def _files(directory: epath.Path) -> set[str]:
  """Returns the files of the items, but not those directly in `directory`."""
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
