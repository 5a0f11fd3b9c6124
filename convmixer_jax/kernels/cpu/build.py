"""Compiles the CPU kernels in csrc/ when they are first needed.

Libraries are kept in the cache directory (`cache.py`). The name of a library
contains a hash of everything that it was compiled from, so that another
compiler, CPU, JAX or source makes another file, and several machines can share
a home directory; and one of its content, so that a damaged file is not loaded.
The compiler is $CXX, else the first of c++, g++ and clang++.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import tempfile

import jax
import jaxlib

from convmixer_jax.cache import cache_dir
from convmixer_jax.notes import note

_SOURCE_DIR = pathlib.Path(__file__).parent / 'csrc'


def build(source: str, kernel_size: int | None = None) -> pathlib.Path:
  """Returns the library of `csrc/<source>.cc`, after compiling it if needed.

  Several processes may do so at the same time: each writes its own file and
  renames it. One that is damaged is compiled again: mapping it could end the
  process.

  Raises:
    RuntimeError: no compiler was found, or it failed.
    OSError: the cache directory cannot be written.
  """
  compiler = _compiler()
  flags = [
    '-std=c++17',
    '-O3',
    _machine_flag(),
    '-ffp-contract=fast',
    '-fPIC',
    '-shared',
    '-pthread',
  ]
  name = source
  if kernel_size is not None:
    flags.append(f'-DKERNEL_SIZE={kernel_size}')
    name += f'_k{kernel_size}'
  # The compiler's predefined macros show its version and the CPU's extensions.
  macros = _run([*compiler, _machine_flag(), '-dM', '-E', '-xc++', os.devnull])
  sources = [_SOURCE_DIR / f'{source}.cc', *sorted(_SOURCE_DIR.glob('*.h'))]
  digest = hashlib.sha256()
  for part in (
    macros,
    shlex.join([*compiler, *flags]),
    jaxlib.__version__,
    *(file.read_text() for file in sources),
  ):
    digest.update(part.encode() + b'\0')
  prefix = f'{name}_{digest.hexdigest()}'
  directory = cache_dir()
  for library in sorted(directory.glob(f'{prefix}_*.so')):
    with contextlib.suppress(FileNotFoundError):  # another process deleted it
      if library.name == _name_by_content(prefix, library):
        return library
      note(f'{library} is damaged; it is compiled again')
      library.unlink()
  directory.mkdir(mode=0o700, parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=directory) as scratch:
    fresh = pathlib.Path(scratch) / 'fresh.so'
    # As of a system, whose headers the compiler does not warn of.
    include = '-isystem', jax.ffi.include_dir()
    _run([*compiler, *flags, *include, str(sources[0]), '-o', str(fresh)])
    return fresh.replace(directory / _name_by_content(prefix, fresh))


def _name_by_content(prefix, library):
  content = hashlib.sha256(library.read_bytes()).hexdigest()
  return f'{prefix}_{content[:16]}.so'


def _machine_flag() -> str:
  # On x86, -mcpu only means -mtune; elsewhere -march may be unknown.
  x86 = platform.machine().lower() in ('x86_64', 'amd64')
  return '-march=native' if x86 else '-mcpu=native'


def _compiler() -> list[str]:
  given = os.environ.get('CXX')
  for candidate in [given] if given else ['c++', 'g++', 'clang++']:
    command = shlex.split(candidate)
    if shutil.which(command[0]):
      return command
  raise RuntimeError(
    f'$CXX is {given!r}, which is not a program; correct or unset it'
    if given
    else 'no C++ compiler was found; install g++ or clang++, or set $CXX'
  )


def _run(command: list[str]) -> str:
  done = subprocess.run(
    command, capture_output=True, text=True, errors='replace', check=False
  )
  if done.returncode:
    lines = [line for line in done.stderr.splitlines() if 'error' in line]
    reason = (lines or done.stderr.splitlines() or ['without a message'])[0]
    raise RuntimeError(f'{command[0]} failed ({reason}); set $CXX to another')
  return done.stdout
