"""Compiles the device code in csrc/ when it is first needed.

By NVRTC where it is, else by nvcc. What was compiled is kept in the cache
directory by source, options, compute capability and compiler
(`compiled_files.py`).
"""

import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

from convmixer_jax.kernels.compiled_files import find_or_compile
from convmixer_jax.kernels.gpu.nvrtc import Nvrtc, find_nvrtc, first_error

SOURCE_DIR = pathlib.Path(__file__).parent / 'csrc'
# What brings a compiler.
INSTALL = "pip install 'jax[cuda13]', or a CUDA toolkit"


class Nvcc:
  """The compiler of a CUDA toolkit.

  Attributes:
    version: its last line about itself.
  """

  def __init__(self, path: str):
    """Asks it for its version.

    Raises:
      OSError: it does not start.
      RuntimeError: it fails.
    """
    self._path = path
    self.version = _run([path, '--version']).strip().splitlines()[-1]

  def __str__(self) -> str:
    return f'nvcc ({self.version})'

  def compile(self, source: pathlib.Path, options: Sequence[str]) -> bytes:
    """Returns the code of a source, as `Nvrtc.compile` does."""
    with tempfile.TemporaryDirectory() as directory:
      output = pathlib.Path(directory) / 'code.cubin'
      _run([self._path, '--cubin', *options, str(source), '-o', str(output)])
      return output.read_bytes()


def compile_device_code(
  source: str, macros: Mapping[str, int | str], capability: str
) -> bytes:
  """Returns the code of `csrc/<source>` for a GPU; compiles it if needed.

  Several processes may do so at the same time. Where nothing can be kept, it is
  compiled each time.

  Args:
    source: name of a file.
    macros: the values of macros by name.
    capability: compute capability of the GPU, such as '9.0'.

  Raises:
    RuntimeError: there is no compiler, or it failed; says what would help.
  """
  compiler = find_compiler()
  if compiler is None:
    raise RuntimeError(
      f"there is no compiler for NVIDIA's GPUs; get one by {INSTALL}"
    )
  options = (
    f'--gpu-architecture=sm_{capability.replace(".", "")}',
    '--std=c++17',
    *(f'-D{name}={value}' for name, value in macros.items()),
  )
  file = SOURCE_DIR / source
  headers = sorted({*SOURCE_DIR.glob('*.cuh'), *SOURCE_DIR.glob('*.h')})
  include = f'-I{SOURCE_DIR}'

  def compile_to(path: pathlib.Path) -> None:
    path.write_bytes(compiler.compile(file, (*options, include)))

  try:
    return find_or_compile(
      f'{file.stem}_sm{capability.replace(".", "")}',
      '.cubin',
      (
        str(compiler),
        ' '.join(options),
        *(path.read_text() for path in (file, *headers)),
      ),
      compile_to,
    ).read_bytes()
  except OSError:  # nothing can be written
    return compiler.compile(file, (*options, include))


def source_hash(source: str, macros: Mapping[str, int | str]) -> str:
  """Returns a hash of device code: of `csrc/<source>`, headers and macros."""
  digest = hashlib.sha256(repr(sorted(macros.items())).encode())
  for path in (SOURCE_DIR / source, *sorted(SOURCE_DIR.glob('*.*h'))):
    digest.update(path.read_bytes())
  return digest.hexdigest()[:16]


@functools.cache
def find_compiler() -> Nvrtc | Nvcc | None:
  """Returns the compiler of this process, or None if there is none."""
  nvrtc = find_nvrtc()
  if nvrtc is not None:
    return nvrtc
  homes = (
    *(os.environ.get(name) for name in ('CUDA_HOME', 'CUDA_PATH')),
    '/usr/local/cuda',
  )
  for path in (
    *(os.path.join(home, 'bin', 'nvcc') for home in homes if home),
    'nvcc',
  ):
    found = shutil.which(path)
    if found:
      try:
        return Nvcc(found)
      except (OSError, RuntimeError):
        continue
  return None


def _run(command: list[str]) -> str:
  done = subprocess.run(
    command, capture_output=True, text=True, errors='replace', check=False
  )
  if done.returncode:
    raise RuntimeError(f'{command[0]} failed: {first_error(done.stderr)}')
  return done.stdout
