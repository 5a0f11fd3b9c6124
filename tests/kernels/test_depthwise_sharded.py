"""depthwise_conv on a batch sharded over devices: partitioned, not gathered."""

import json
import math

import devices
import gpu_emulator
import pytest

from convmixer_jax.kernels import BACKENDS
from convmixer_jax.kernels.cpu import library

# The others need a GPU, or one that is emulated.
ANYWHERE = [name for name in BACKENDS if name != 'cuda']

SCRIPT = """
import functools, json, pathlib, re, sys, tempfile
if 'emulated' in sys.argv[2:]:
  from gpu_emulator import as_gpu
  scratch = tempfile.TemporaryDirectory()
  as_gpu.install(pathlib.Path(scratch.name))
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax.kernels import depthwise_conv

case = json.loads(sys.argv[1])
names = tuple(case['mesh'])
mesh = jax.make_mesh(
  tuple(case['mesh'].values()), names, axis_types=(AxisType.Auto,) * len(names)
)
rng = np.random.default_rng(0)
draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
batch, height, width, channels, size = case['shape']
images = batch, height, width, channels
dtype = jnp.dtype(case['dtype'])
x, dy = jnp.asarray(draw(*images), dtype), jnp.asarray(draw(*images), dtype)
kernel, bias = draw(size, size, channels), draw(channels)

def results(backend, x, kernel, bias, dy):
  conv = functools.partial(depthwise_conv, backend=backend)
  y, pull = jax.vjp(conv, x, kernel, bias)
  return y, *pull(dy)

def put(array, *spec):
  return jax.device_put(array, NamedSharding(mesh, P(*spec)))

sharded_channels = case['sharded_channels']
arguments = (
  put(x, names),
  put(kernel, None, None, sharded_channels),
  put(bias, sharded_channels),
  put(dy, names),
)
compiled = jax.jit(
  functools.partial(results, case['backend'])
).lower(*arguments).compile()
text = compiled.as_text()
values = compiled(*arguments)
expected = jax.jit(functools.partial(results, 'xla'))(x, kernel, bias, dy)
same_bits = None
if case['backend'] == 'cuda':
  alone = jax.jit(functools.partial(results, 'cuda'))(x, kernel, bias, dy)
  same_bits = [
    jax.device_get(a).tobytes() == jax.device_get(b).tobytes()
    for a, b in zip(values, alone)
  ]
errors = [
  float(jnp.abs(a.astype(jnp.float32) - b.astype(jnp.float32)).max()
        / jnp.abs(b.astype(jnp.float32)).max())
  for a, b in zip(jax.device_get(values), expected)
]
print(json.dumps(dict(
  gathers=re.findall(
    r' = (.*?) (?:all-gather|all-to-all|collective-permute)(?:-start)?\\(', text
  ),
  reductions=re.findall(r' = (.*?) all-reduce(?:-start)?\\(', text),
  shards=[v.sharding.shard_shape(v.shape)[0] for v in values],
  foreign=len(re.findall(r'custom_call_target="convmixer_', text)),
  errors=errors,
  same_bits=same_bits,
)))
"""


def run(backend, mesh, shape, dtype='bfloat16', sharded_channels=None):
  if backend == 'cpu' and library.unavailable('depthwise', shape[-1]):
    pytest.skip('the CPU kernels need a C++ compiler')
  case = dict(
    backend=backend,
    mesh=mesh,
    shape=shape,
    dtype=dtype,
    sharded_channels=sharded_channels,
  )
  count = math.prod(mesh.values())
  where = ['emulated'] if backend == 'cuda' else []
  return json.loads(devices.run(SCRIPT, count, json.dumps(case), *where))


@pytest.mark.parametrize('backend', [None, *ANYWHERE])
@pytest.mark.parametrize(
  'num_devices, shape',
  [
    pytest.param(8, (16, 8, 8, 40, 3), marks=pytest.mark.slow),
    (2, (6, 5, 7, 33, 4)),
  ],
)
def test_sharded_batch_is_not_moved(backend, num_devices, shape):
  found = run(backend, {'data': num_devices}, shape)
  assert found['gathers'] == []
  # The one thing that travels is the sum of the parameters' gradients.
  (reduction,) = found['reductions']
  assert 'bf16' not in reduction
  assert 'f32' in reduction
  assert found['shards'][:2] == [shape[0] // num_devices] * 2
  assert max(found['errors']) < 2**-7
  assert max(found['errors'][2:]) < 1e-5
  if backend == 'cpu':
    assert found['foreign'] == 3


def test_sharded_parameters_are_gathered_but_images_are_not():
  shape = (8, 6, 6, 64, 3)
  mesh = {'data': 2, 'fsdp': 2}
  found = run(None, mesh, shape, 'float32', sharded_channels='fsdp')
  assert max(found['errors']) < 1e-5
  assert not any('8,6,6' in gather for gather in found['gathers'])
  assert found['shards'][:2] == [2, 2]


@pytest.mark.slow
@pytest.mark.skipif(not gpu_emulator.COMPILER, reason='there is no g++')
def test_gpu_kernels_run_on_the_images_of_each_device():
  shape = (4, 5, 7, 32, 4)
  mesh = {'data': 2, 'fsdp': 2}
  found = run('cuda', mesh, shape, sharded_channels='fsdp')
  # y, dx, and for the kernel's gradient partial sums and their sum.
  assert found['foreign'] == 4
  assert not any('4,5,7' in gather for gather in found['gathers'])
  assert found['reductions']
  assert not any('bf16' in reduction for reduction in found['reductions'])
  assert found['shards'][:2] == [4 // math.prod(mesh.values())] * 2
  assert max(found['errors']) < 2**-7  # XLA's form for GPUs rounds gradients
  # Those of the result and of the input's gradient, as on one device.
  assert found['same_bits'][:2] == [True, True]
