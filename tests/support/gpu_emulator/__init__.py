"""Runs the GPU kernels on the CPU; emulator.h says what it checks."""

import ctypes
import pathlib
import shutil
import subprocess
from typing import NamedTuple

import numpy as np

from convmixer_jax.kernels import gpu
from convmixer_jax.kernels.gpu.instances import Instance

HERE = pathlib.Path(__file__).parent
CSRC = pathlib.Path(gpu.__file__).parent / 'csrc'
NUM_ORDERS = 3
# Images by the strips that lie side by side in a thread block, and whether
# other blocks lie beside it: odd batches, sizes that end within a strip, and
# more rows than a kernel has.
SHAPES = {
  'one strip': (17, 12, 13, 16),
  'two strips': (3, 13, 25, 32),
  'four strips': (5, 12, 59, 16),
  'neighbours': (1, 12, 133, 16),
}
COMPILER = shutil.which('g++')
FLAGS = ['-std=c++17', '-O1', '-fPIC', '-U_FORTIFY_SOURCE', '-I', str(HERE)]


class Counts(NamedTuple):
  """What all launches since the last report did.

  shared_cycles: cycles in which shared memory was accessed.
  shared_accesses: those without bank conflicts.
  products: of 16x8x16 matrices.
  barriers: of blocks.
  bytes_copied: from global to shared memory.
  """

  shared_cycles: int
  shared_accesses: int
  products: int
  barriers: int
  bytes_copied: int


class Emulator:
  """Compiles instances of `csrc` and runs them.

  `directory` keeps the libraries.
  """

  def __init__(self, directory: pathlib.Path, csrc: pathlib.Path = CSRC):
    self._directory, self._csrc = directory, csrc
    self._libraries = {}
    self._objects = []
    for source in ('emulator', 'shared_memory'):
      self._objects.append(str(directory / f'{source}.o'))
      _compile(['-c', str(HERE / f'{source}.cc'), '-o', self._objects[-1]])

  def run(
    self, instance: Instance, buffers: dict[str, np.ndarray], order: int = 0
  ) -> Counts:
    """Runs all launches. Raises AssertionError with what the emulator found.

    Args:
      instance: of `instances.instance`.
      buffers: by the names of the instance's pointers; a bias may be missing.
        Results are written there.
      order: in which threads run, 0 to NUM_ORDERS - 1.
    """
    library = self._library(instance)
    buffers = {'bias': None, **buffers}
    # Pieces of memory that were not written show as NaN.
    buffers['workspace'] = np.full(
      instance.workspace_bytes // 4, np.nan, np.float32
    )
    for array in buffers.values():
      if array is not None:
        pointer = ctypes.c_void_p(array.ctypes.data)
        library.add_array(pointer, ctypes.c_longlong(array.nbytes))
    for launch in instance.launches:
      arrays = [buffers[name] for name in launch.pointers]
      pointers = [None if a is None else a.ctypes.data for a in arrays]
      shape = (*launch.grid[:2], launch.block[0], launch.shared_bytes)
      unknown = library.run(
        launch.entry.encode(),
        (ctypes.c_int * 4)(*shape),
        order,
        (ctypes.c_void_p * len(pointers))(*pointers),
        (ctypes.c_int * len(launch.integers))(*launch.integers),
      )
      assert not unknown, launch.entry
    error = ctypes.create_string_buffer(300)
    counts = (ctypes.c_longlong * 5)()
    library.take_report(error, 300, counts)
    assert not error.value, error.value.decode()
    return Counts(*counts)

  def _library(self, instance):
    key = instance.source, instance.defines
    if key not in self._libraries:
      self._libraries[key] = ctypes.CDLL(str(self.compile(*key)))
    return self._libraries[key]

  def compile(
    self, source: str, defines: tuple[tuple[str, int], ...]
  ) -> pathlib.Path:
    """Returns the library of a module; see `Instance`."""
    name = '_'.join([source, *(str(value) for _, value in defines)])
    path = self._directory / f'{name}.so'
    entry = pathlib.Path(source).stem
    _compile(
      [
        '-shared',
        '-DCONVMIXER_EMULATOR',
        *(f'-D{macro}={value}' for macro, value in defines),
        f'-DKERNEL_SOURCE="{self._csrc / source}"',
        f'-DKERNEL_NAME="{entry}"',
        f'-DKERNEL_ENTRY={entry}',
        str(HERE / 'driver.cc'),
        *self._objects,
        '-o',
        str(path),
      ]
    )
    return path


def _compile(arguments):
  result = subprocess.run(
    [COMPILER, *FLAGS, *arguments], capture_output=True, text=True
  )
  assert not result.returncode, result.stderr
