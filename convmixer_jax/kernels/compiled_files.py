"""Files of compiled code in the cache directory (`cache.py`).

The name of a file contains a hash of everything that it was compiled from, so
that another compiler, processor or source makes another file, and several
machines can share a home directory; and one of its content, so that a damaged
file is not loaded. Several processes may compile the same file at the same
time: each writes its own and renames it.
"""

import contextlib
import hashlib
import pathlib
import tempfile
from collections.abc import Callable, Iterable

from convmixer_jax.cache import cache_dir
from convmixer_jax.notes import note


def find_or_compile(
  name: str,
  suffix: str,
  compiled_from: Iterable[str],
  compile_to: Callable[[pathlib.Path], None],
) -> pathlib.Path:
  """Returns the file of some compiled code, after compiling it if needed.

  One that is damaged is compiled again: using it could end the process.

  Args:
    name: start of the file's name.
    suffix: end of the file's name, such as '.so'.
    compiled_from: everything that the content depends on.
    compile_to: compiles to a file.

  Raises:
    OSError: the cache directory cannot be written.
  """
  digest = hashlib.sha256()
  for part in compiled_from:
    digest.update(part.encode() + b'\0')
  prefix = f'{name}_{digest.hexdigest()}'
  directory = cache_dir()
  for file in sorted(directory.glob(f'{prefix}_*{suffix}')):
    with contextlib.suppress(FileNotFoundError):  # another process deleted it
      if file.name == _name_by_content(prefix, suffix, file):
        return file
      note(f'{file} is damaged; it is compiled again')
      file.unlink()
  directory.mkdir(mode=0o700, parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=directory) as scratch:
    fresh = pathlib.Path(scratch) / f'fresh{suffix}'
    compile_to(fresh)
    return fresh.replace(directory / _name_by_content(prefix, suffix, fresh))


def _name_by_content(prefix: str, suffix: str, file: pathlib.Path) -> str:
  content = hashlib.sha256(file.read_bytes()).hexdigest()
  return f'{prefix}_{content[:16]}{suffix}'
