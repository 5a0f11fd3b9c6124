"""The CPU kernels: how they are built, the same bits each time, no bad access.

Their results are checked with those of the other backends in
test_depthwise.py, their sharding in test_depthwise_sharded.py.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import commands
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from convmixer_jax.kernels import depthwise_conv, dispatch
from convmixer_jax.kernels.cpu import build, library

ROOT = pathlib.Path(__file__).parents[2]

needs_compiler = pytest.mark.skipif(
  library.unavailable('depthwise', 3) is not None,
  reason='the CPU kernels need a C++ compiler',
)

PRINT_DIGEST = """
import hashlib, os, sys
cpus = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, cpus[:int(sys.argv[1])])
import jax, jax.numpy as jnp, numpy as np
from convmixer_jax.kernels import depthwise_conv, layer_norm, linear
rng = np.random.default_rng(0)
draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
x, dy = draw(9, 16, 16, 160), draw(9, 16, 16, 160)
w, how = draw(160, 160), {'backend': 'cpu'}
def layer(x, kernel, bias, scale, offset):
  y = linear(depthwise_conv(x, kernel, bias, **how), w, **how)
  return layer_norm(y, scale, offset, epsilon=1e-6, **how)
def run(*a):
  y, pull = jax.vjp(layer, *a)
  return y, *pull(dy)
run = jax.jit(run)
arguments = x, draw(5, 5, 160), *(draw(160) for _ in range(3))
digests = {
  hashlib.sha256(b''.join(np.asarray(a).tobytes() for a in run(*arguments)))
  .hexdigest() for _ in range(20)
}
print(*digests)
"""


def start(script, *arguments, **environ):
  return subprocess.Popen(
    [sys.executable, '-c', script, *arguments],
    env={**os.environ, 'PYTHONPATH': str(ROOT), **environ},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def output(process):
  out, err = process.communicate()
  assert process.returncode == 0, err
  return out


@pytest.mark.skipif(
  not any(map(shutil.which, ['c++', 'g++', 'clang++'])),
  reason='there is no C++ compiler',
)
@pytest.mark.parametrize('source', library.FUNCTIONS)
def test_every_source_compiles_where_there_is_a_compiler(source):
  """Without this, the tests of a source that does not would all be skipped."""
  kernel_size = 3 if source == 'depthwise' else None
  assert library.unavailable(source, kernel_size) is None


@needs_compiler
@pytest.mark.skipif(
  not hasattr(os, 'sched_setaffinity'), reason='cannot choose the CPUs here'
)
def test_results_are_bit_identical_for_any_number_of_threads():
  runs = [commands.run(['-c', PRINT_DIGEST, count]) for count in ('1', '999')]
  assert [run.returncode for run in runs] == [0, 0], runs
  one, all_of_them = (run.stdout for run in runs)
  assert len(one.split()) == 1
  assert one == all_of_them


@needs_compiler
@pytest.mark.slow
def test_processes_that_build_at_once_share_one_library(tmp_path):
  script = (
    'from convmixer_jax.kernels.cpu import library\n'
    'library.load("depthwise", 2)'
  )
  processes = [
    start(script, CONVMIXER_JAX_CACHE=str(tmp_path / 'new')) for _ in range(3)
  ]
  for process in processes:
    output(process)
  (library,) = (tmp_path / 'new').iterdir()
  assert library.name.startswith('depthwise_k2_')


@pytest.mark.slow
@needs_compiler
def test_library_has_another_name_after_a_source_changed(tmp_path, monkeypatch):
  monkeypatch.setenv('CONVMIXER_JAX_CACHE', str(tmp_path / 'cache'))
  sources = tmp_path / 'csrc'
  shutil.copytree(build._SOURCE_DIR, sources)
  monkeypatch.setattr(build, '_SOURCE_DIR', sources)
  before = build.build('depthwise', 1)
  with open(sources / 'kernel_gradient.h', 'a') as header:
    header.write('// changed\n')
  assert build.build('depthwise', 1) != before


@pytest.mark.slow
@needs_compiler
def test_library_is_built_once(tmp_path, monkeypatch):
  monkeypatch.setenv('CONVMIXER_JAX_CACHE', str(tmp_path))
  library = build.build('depthwise', 2)
  written = library.stat().st_mtime_ns
  assert build.build('depthwise', 2) == library
  assert library.stat().st_mtime_ns == written


@pytest.mark.slow
@needs_compiler
def test_damaged_library_is_built_again(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('CONVMIXER_JAX_CACHE', str(tmp_path))
  library = build.build('depthwise', 2)
  content = library.read_bytes()
  for damaged in (b'', content[: len(content) // 2], content[:-1] + b'x'):
    library.unlink()  # which may be loaded
    library.write_bytes(damaged)
    assert build.build('depthwise', 2).read_bytes() == content
  line = f'Note: {library} is damaged; it is compiled again\n'
  assert capsys.readouterr().err == line


@pytest.mark.parametrize(
  'compiler, reason',
  [
    ('/no/such/compiler', 'which is not a program'),
    (sys.executable, r'failed \('),
  ],
)
def test_without_a_compiler_shift_computes_and_one_warning_says_so(
  compiler, reason, monkeypatch, tmp_path
):
  messages = []
  monkeypatch.setenv('CXX', compiler)
  monkeypatch.setenv('CONVMIXER_JAX_CACHE', str(tmp_path))
  monkeypatch.setattr(
    logging, 'warning', lambda text, *args: messages.append(text % args)
  )
  x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((11, 11, 2))
  library.unavailable.cache_clear()
  dispatch._warn.cache_clear()
  try:
    y = jax.jit(depthwise_conv)(x, kernel)
    jax.grad(lambda kernel: depthwise_conv(x, kernel).sum())(kernel)
    with pytest.raises(RuntimeError, match=reason):
      depthwise_conv(x, kernel, backend='cpu')
  finally:
    library.unavailable.cache_clear()
    dispatch._warn.cache_clear()
  np.testing.assert_array_equal(y, 16)
  (message,) = messages
  assert 'several times slower' in message


@needs_compiler
def test_kernel_with_more_columns_than_registers_equals_xla():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, 9, 11, 20), np.float32)
  kernel = rng.standard_normal((13, 13, 20), np.float32)
  results = {}
  for name in ('cpu', 'xla'):
    y, pull = jax.vjp(
      lambda x, kernel, name=name: depthwise_conv(x, kernel, backend=name),
      jnp.asarray(x),
      jnp.asarray(kernel),
    )
    results[name] = (y, *pull(y))
  for value, expected in zip(*results.values(), strict=True):
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-3)


@needs_compiler
def test_bfloat16_keeps_nan_and_infinity():
  special = [np.nan, -np.nan, np.inf, -np.inf, 0.0, 3.3e38]
  x = jnp.asarray(special, jnp.float32).reshape(1, 1, 1, 6)
  x = x.astype(jnp.bfloat16)
  kernel = jnp.ones((1, 1, 6), jnp.bfloat16)
  y = depthwise_conv(x, kernel, backend='cpu')
  np.testing.assert_array_equal(
    y.astype(jnp.float32), x.astype(jnp.float32), strict=True
  )
