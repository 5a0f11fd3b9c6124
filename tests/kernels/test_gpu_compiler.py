"""Compiling device code at first use: compilers, the cache, what goes wrong."""

import os
import shutil
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import pytest
from absl import logging

from convmixer_jax.kernels import compiled_files, dispatch
from convmixer_jax.kernels.gpu import (
  compiler,
  instances,
  library,
  nvrtc,
  shared_memory,
)

SOURCE = """
#include "twice.cuh"
extern "C" __global__ void kernel(float* x) { *x = twice(*x) + VALUE; }
"""
HEADER = """
template <typename T> __device__ T twice(T x) { return x + x; }
"""

needs_compiler = pytest.mark.skipif(
  compiler.find_compiler() is None, reason='needs NVRTC or nvcc'
)


@pytest.fixture
def sources(tmp_path, monkeypatch):
  directory = tmp_path / 'csrc'
  directory.mkdir()
  (directory / 'kernel.cu').write_text(SOURCE)
  (directory / 'twice.cuh').write_text(HEADER)
  monkeypatch.setattr(compiler, 'SOURCE_DIR', directory)
  monkeypatch.setenv('CONVMIXER_JAX_CACHE', str(tmp_path / 'cache'))
  return directory


class FakeCompiler:
  """Counts what it compiles; its code is the options and the source."""

  def __init__(self, version='1'):
    self.version = version
    self.calls = 0

  def __str__(self):
    return f'fake {self.version}'

  def compile(self, source, options):
    self.calls += 1
    return f'{options[:-1]} {source.read_text()}'.encode()


@pytest.fixture
def fake(monkeypatch):
  one = FakeCompiler()
  monkeypatch.setattr(compiler, 'find_compiler', lambda: one)
  return one


def compile_kernel(value=1, capability='9.0'):
  return compiler.compile_device_code('kernel.cu', {'VALUE': value}, capability)


def test_code_is_compiled_once_for_options_sources_and_compiler(sources, fake):
  first = compile_kernel()
  assert compile_kernel() == first
  assert fake.calls == 1
  assert b'-DVALUE=1' in first
  assert b'sm_90' in first
  compile_kernel(value=2)
  compile_kernel(capability='8.0')
  assert fake.calls == 3
  (sources / 'twice.cuh').write_text(HEADER + '// changed')
  compile_kernel()
  assert fake.calls == 4
  fake.version = '2'
  compile_kernel()
  assert fake.calls == 5


def test_damaged_code_is_compiled_again(sources, fake, tmp_path, capsys):
  code = compile_kernel()
  (file,) = (tmp_path / 'cache').iterdir()
  file.write_bytes(code[:-3])
  assert compile_kernel() == code
  assert 'is damaged; it is compiled again' in capsys.readouterr().err


def test_code_is_compiled_where_nothing_can_be_kept(
  sources, fake, tmp_path, monkeypatch
):
  (tmp_path / 'file').write_text('')
  monkeypatch.setattr(
    compiled_files, 'cache_dir', lambda: tmp_path / 'file' / 'below'
  )
  assert compile_kernel() == compile_kernel()
  assert fake.calls == 2


@needs_compiler
def test_compiler_gives_code_for_gpus(sources):
  code = compile_kernel()
  assert code[:4] == b'\x7fELF'
  assert b'kernel' in code


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
  'capability', ['8.0', '8.6', '8.7', '8.9', '9.0', '10.0', '10.3']
)
def test_kernels_compile_for_every_gpu(capability, tmp_path, monkeypatch):
  monkeypatch.setenv('CONVMIXER_JAX_CACHE', str(tmp_path))
  for kind in instances.KINDS:
    instance = instances.instance(
      kind,
      *((64, 32, 32, 1536), 9, 4),
      shared_bytes=shared_memory.limit(capability),
    )
    code = compiler.compile_device_code(
      instance.source, dict(instance.defines), capability
    )
    for launch in instance.launches:
      assert launch.entry.encode() in code
      assert library._unsuitable(capability, launch.shared_bytes) is None


@needs_compiler
def test_error_of_the_compiler_is_one_line_with_its_place(sources):
  with pytest.raises(RuntimeError) as error:
    compile_kernel(value='unknown_name')
  assert 'kernel.cu' in str(error.value)
  assert 'unknown_name' in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('nvcc'), reason='needs nvcc')
def test_nvcc_compiles_where_there_is_no_nvrtc(sources, monkeypatch):
  monkeypatch.setattr(compiler, 'find_nvrtc', lambda: None)
  found = compiler.find_compiler.__wrapped__()
  assert str(found).startswith('nvcc (')
  monkeypatch.setattr(compiler, 'find_compiler', lambda: found)
  assert compile_kernel()[:4] == b'\x7fELF'


COMPILE = """
import pathlib, sys
from convmixer_jax.kernels.gpu import compiler
compiler.SOURCE_DIR = pathlib.Path(sys.argv[1])
print(len(compiler.compile_device_code('kernel.cu', {'VALUE': 3}, '9.0')))
"""


@needs_compiler
@pytest.mark.slow
def test_processes_that_compile_at_once_share_one_file(sources, tmp_path):
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', COMPILE, str(sources)],
      env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
      stdout=subprocess.PIPE,
      text=True,
    )
    for _ in range(3)
  ]
  sizes = {process.communicate()[0] for process in processes}
  assert [process.returncode for process in processes] == [0, 0, 0]
  (file,) = (tmp_path / 'cache').iterdir()
  assert sizes == {f'{file.stat().st_size}\n'}


def test_nvrtc_of_the_cuda_of_the_plugin_is_tried_first(monkeypatch, tmp_path):
  for folder in ('cu13', 'cuda_nvrtc'):
    (tmp_path / folder / 'lib').mkdir(parents=True)
  new = tmp_path / 'cu13/lib/libnvrtc.so.13'
  old = tmp_path / 'cuda_nvrtc/lib/libnvrtc.so.12'
  for file in (new, old):
    file.write_bytes(b'')
  monkeypatch.setattr(
    nvrtc,
    '_package_directories',
    lambda: sorted(str(path) for path in tmp_path.glob('*/lib')),
  )
  for plugin, first in ((12, old), (13, new)):
    monkeypatch.setattr(
      nvrtc, '_has_plugin', lambda major, p=plugin: major == p
    )
    assert next(nvrtc._candidates()) == str(first)


@pytest.fixture
def hopper(monkeypatch, tmp_path):
  """A process that has a GPU of compute capability 9.0, as far as is asked."""
  (tmp_path / 'correlate.cu').write_text('')
  monkeypatch.setattr(compiler, 'SOURCE_DIR', tmp_path)
  gpu = types.SimpleNamespace(
    platform='gpu', compute_capability='9.0', local_hardware_id=0
  )
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  monkeypatch.setattr(jax, 'local_devices', lambda: [gpu])
  library._unavailable_here.cache_clear()
  dispatch._warn.cache_clear()
  yield gpu
  library._unavailable_here.cache_clear()
  dispatch._warn.cache_clear()


def defaults(shape=(2, 8, 8, 32), size=5, dtype=jnp.bfloat16):
  x = jax.ShapeDtypeStruct(shape, dtype)
  kernel = jax.ShapeDtypeStruct((size, size, shape[-1]), dtype)
  return dispatch.default_backends(
    'depthwise_conv', (x, kernel, None), {'pad_before': (size - 1) // 2}
  )['cuda' if size > 7 else 'default']


def test_without_a_compiler_xla_computes_and_one_warning_says_how_to_get_it(
  hopper, monkeypatch
):
  messages = []
  monkeypatch.setattr(
    logging, 'warning', lambda text, *args: messages.append(text % args)
  )
  monkeypatch.setattr(compiler, 'find_compiler', lambda: None)
  monkeypatch.setattr(library, '_handler_or_reason', lambda: (object(), None))
  assert defaults() == 'xla'
  assert defaults((4, 8, 8, 64)) == 'xla'
  assert defaults(size=9) == 'shift'
  (message,) = messages
  assert 'the cuda kernels are not used' in message
  assert "pip install 'jax[cuda13]'" in message


@pytest.mark.parametrize(
  ('capability', 'reason'),
  [
    ('7.5', 'has compute capability 7.5, and they are for 8.0 to 10.3'),
    ('12.0', 'has compute capability 12.0, and they are for 8.0 to 10.3'),
    ('gfx942', 'gfx942 is not the compute capability of an NVIDIA GPU'),
  ],
)
def test_other_gpus_are_left_to_xla_with_the_reason(
  hopper, monkeypatch, capability, reason
):
  messages = []
  monkeypatch.setattr(
    logging, 'warning', lambda text, *args: messages.append(text % args)
  )
  hopper.compute_capability = capability
  assert defaults() == 'xla'
  (message,) = messages
  assert reason in message


def test_kernel_that_needs_more_shared_memory_than_the_gpu_has_is_not_used():
  assert library._unsuitable('8.0', 160 * 1024) is None
  assert '160 KiB' in library._unsuitable('8.9', 160 * 1024)


@pytest.mark.parametrize(
  ('changes', 'reason'),
  [
    ({'dtype': jnp.float32}, 'float32'),
    ({'shape': (2, 8, 8, 24)}, '24 channels are not a multiple of 16'),
    ({'size': 11}, '11 x 11'),
    ({'size': 1}, '1 x 1'),
  ],
)
def test_what_the_kernels_do_not_support_is_left_to_xla_with_the_reason(
  hopper, monkeypatch, changes, reason
):
  messages = []
  monkeypatch.setattr(
    logging, 'warning', lambda text, *args: messages.append(text % args)
  )
  assert defaults(**changes) in ('xla', 'shift')
  (message,) = messages
  assert reason in message
