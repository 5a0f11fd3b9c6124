"""Compiles C++ when it is first needed: the CPU kernels in csrc/, for one.

Libraries are kept in the cache directory (`compiled_files.py`), by compiler,
CPU, JAX and source. The compiler is $CXX, else the first of c++, g++ and
clang++.
"""

import os
import pathlib
import platform
import shlex
import shutil
import subprocess

import jax
import jaxlib

from convmixer_jax.kernels.compiled_files import find_or_compile

_SOURCE_DIR = pathlib.Path(__file__).parent / 'csrc'


def build(
  source: str,
  kernel_size: int | None = None,
  directory: pathlib.Path | None = None,
) -> pathlib.Path:
  """Returns the library of `<source>.cc`, after compiling it if needed.

  Args:
    source: name of the source, without its end.
    kernel_size: for a source that is compiled for each; else None.
    directory: that has the source and the headers that it includes; None for
      those of the CPU kernels.

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
    '-fno-math-errno',  # for square roots of vectors
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
  directory = directory or _SOURCE_DIR
  sources = [directory / f'{source}.cc', *sorted(directory.glob('*.h'))]

  def compile_to(file: pathlib.Path) -> None:
    # As of a system, whose headers the compiler does not warn of.
    include = '-isystem', jax.ffi.include_dir()
    _run([*compiler, *flags, *include, str(sources[0]), '-o', str(file)])

  return find_or_compile(
    name,
    '.so',
    (
      macros,
      shlex.join([*compiler, *flags]),
      jaxlib.__version__,
      *(file.read_text() for file in sources),
    ),
    compile_to,
  )


def vector_bits() -> int:
  """Returns the width of the vectors of the kernels, as in csrc/vectors.h.

  Raises:
    RuntimeError: no compiler was found, or it failed.
  """
  macros = _run(
    [*_compiler(), _machine_flag(), '-dM', '-E', '-xc++', os.devnull]
  )
  if '__AVX512F__' in macros:
    return 512
  return 256 if '__AVX__ ' in macros else 128


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
