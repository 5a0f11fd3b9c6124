"""Lets a process compute on an emulated GPU: its CPU devices stand for GPUs.

All of the way to the GPU kernels is run, but for NVIDIA's driver: JAX chooses
and partitions them, XLA calls the handler of `kernels/gpu/host/`, and a fake
driver runs what that launches in the emulator. What the emulator finds ends the
process. As a plugin of pytest it lets tests marked `gpu` run:

  PYTHONPATH=tests/support python -m pytest -p gpu_emulator.as_gpu -m gpu \\
    tests/kernels
"""

import atexit
import ctypes
import functools
import pathlib
import shutil
import subprocess
import tempfile

import jax
from jax import lax

import gpu_emulator
from convmixer_jax.kernels.gpu import library

_TESTS = pathlib.Path(__file__).parents[2] / 'kernels'


def install(directory: pathlib.Path) -> None:
  """Replaces the driver and the compiler of device code in this process.

  What is compiled is kept in the directory.
  """
  driver = directory / 'fake_cuda.so'
  handler = directory / 'gpu_driver.so'
  for path, *flags in (
    (driver, '-ldl'),
    (
      handler,
      *(f'-I{library._HOST_DIR}', '-isystem', jax.ffi.include_dir()),
      *(f'-DCUDA_DRIVER="{driver}"', '-ldl'),
    ),
  ):
    source = str(_TESTS / f'{path.stem}.cc')
    subprocess.run(
      [
        *(gpu_emulator.COMPILER, '-std=c++17', '-O1', '-fPIC', '-shared'),
        *(source, *flags, '-o', str(path)),
      ],
      check=True,
    )
  emulator = gpu_emulator.Emulator(directory)
  handlers = ctypes.CDLL(str(handler))
  jax.ffi.register_ffi_target(
    library.HANDLER, jax.ffi.pycapsule(handlers.convmixer_cpu_launch), 'cpu'
  )

  @functools.cache
  def compile_here(source, defines, needs):
    path = emulator.compile(source, defines)
    code = ''.join(f'{entry} 0 0 {path}\n' for entry, _ in needs) + '\0'
    handlers.convmixer_gpu_add(
      library._module_name(source, defines).encode(),
      code.encode(),
      ctypes.c_size_t(len(code)),
    )

  library._unavailable_here = compile_here
  jax.default_backend = lambda: 'gpu'
  lax.platform_dependent = _call_for_gpus


def _call_for_gpus(*arguments, default=None, **by_platform):
  return by_platform.get('cuda', default)(*arguments)


def pytest_configure() -> None:
  """Makes this module a plugin."""
  directory = pathlib.Path(tempfile.mkdtemp())
  atexit.register(shutil.rmtree, directory, ignore_errors=True)
  install(directory)
