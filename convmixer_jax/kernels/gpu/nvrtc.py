"""NVIDIA's compiler NVRTC, a library that compiles CUDA C++ from a string.

It needs neither a GPU nor a driver nor headers. `pip install jax[cuda13]`
brings it, and so does every CUDA toolkit. Its C interface has been the same
since CUDA 11.
"""

import ctypes
import functools
import glob
import importlib.util
import os
import pathlib
from collections.abc import Iterator, Sequence


class Nvrtc:
  """A loaded NVRTC.

  Attributes:
    version: such as '13.0'.
  """

  def __init__(self, path: str):
    """Loads the library.

    Raises:
      OSError: it cannot be loaded.
    """
    self._library = ctypes.CDLL(path)
    self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
    major, minor = ctypes.c_int(), ctypes.c_int()
    self._call('nvrtcVersion', ctypes.byref(major), ctypes.byref(minor))
    self.version = f'{major.value}.{minor.value}'

  def __str__(self) -> str:
    return f'NVRTC {self.version}'

  def compile(self, source: pathlib.Path, options: Sequence[str]) -> bytes:
    """Returns the code (a cubin) of a source.

    Args:
      source: a file.
      options: those that nvcc has too; one of them is the architecture, such
        as '--gpu-architecture=sm_90'.

    Raises:
      RuntimeError: it cannot be compiled; has the compiler's first error.
    """
    # Functions without a marker are for the device: there is no host here.
    options = (*options, '--device-as-default-execution-space')
    arguments = (ctypes.c_char_p * len(options))(
      *(option.encode() for option in options)
    )
    program = ctypes.c_void_p()
    self._call(
      'nvrtcCreateProgram',
      ctypes.byref(program),
      source.read_bytes(),
      source.name.encode(),
      *(0, None, None),
    )
    try:
      status = self._library.nvrtcCompileProgram(
        program, len(options), arguments
      )
      if status:
        log = self._output(program, 'nvrtcGetProgramLog').decode().rstrip('\0')
        raise RuntimeError(
          f'{self} failed: {first_error(log) or self._describe(status)}'
        )
      return self._output(program, 'nvrtcGetCUBIN')
    finally:
      self._library.nvrtcDestroyProgram(ctypes.byref(program))

  def _output(self, program, function):
    size = ctypes.c_size_t()
    self._call(f'{function}Size', program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    self._call(function, program, buffer)
    return buffer.raw

  def _call(self, function, *arguments):
    status = getattr(self._library, function)(*arguments)
    if status:
      raise RuntimeError(f'{function}: {self._describe(status)}')

  def _describe(self, status):
    return self._library.nvrtcGetErrorString(status).decode()


def first_error(log: str) -> str:
  """Returns the first line of a compiler's output that has an error."""
  lines = [line.strip() for line in log.splitlines() if line.strip()]
  errors = [line for line in lines if 'error' in line]
  return (errors or lines or [''])[0]


@functools.cache
def find_nvrtc() -> Nvrtc | None:
  """Returns the first NVRTC that can be loaded: of a package, of the system."""
  for path in _candidates():
    try:
      return Nvrtc(path)
    except (OSError, AttributeError, RuntimeError):
      continue
  return None


def _candidates() -> Iterator[str]:
  # A driver may not load the code of a CUDA newer than the plugin's.
  majors = sorted((13, 12), key=_has_plugin, reverse=True)
  names = [f'libnvrtc.so.{major}' for major in majors]
  directories = [
    *_package_directories(),
    *(
      os.path.join(os.environ[name], 'lib64')
      for name in ('CUDA_HOME', 'CUDA_PATH')
      if name in os.environ
    ),
  ]
  for name in names:
    for directory in directories:
      yield from glob.glob(glob.escape(os.path.join(directory, name)))
    yield name  # where the system looks
    yield os.path.join('/usr/local/cuda/lib64', name)


def _has_plugin(major):
  try:
    return bool(importlib.util.find_spec(f'jax_plugins.xla_cuda{major}'))
  except ModuleNotFoundError:  # no plugin at all
    return False


def _package_directories():
  """Returns where NVIDIA's packages have their libraries."""
  spec = importlib.util.find_spec('nvidia')  # a package of many distributions
  for path in (spec and spec.submodule_search_locations) or ():
    yield from sorted(glob.glob(os.path.join(glob.escape(path), '*', 'lib')))
