"""What only a GPU can show; skipped where JAX sees none.

Needs nothing that a machine without a network may lack: no data sets of TFDS.
"""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from configs import default
from convmixer_jax import kernels
from convmixer_jax.benchmarks.device import correctness, operations
from convmixer_jax.benchmarks.device.settings import DepthwiseShape
from convmixer_jax.distributed import sharding
from convmixer_jax.export.stablehlo import to_stablehlo
from convmixer_jax.kernels.gpu import library
from convmixer_jax.models import create_model
from convmixer_jax.training.trainer import create_trainer

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = pytest.mark.gpu

SHAPES = (
  DepthwiseShape(16, 16, 32, 9),
  DepthwiseShape(16, 32, 16, 7),
  DepthwiseShape(3, 7, 24, 4),
  DepthwiseShape(5, 19, 48, 4),
)
# Creating them starts no backend: other processes may need the GPU.
CHECKS = {
  f'{check.operation} {check.shape}': check
  for check in operations.create_checks('gpu', SHAPES, ())
}


@pytest.fixture(autouse=True)
def gpu():
  if jax.default_backend() != 'gpu':
    pytest.skip(f"JAX's backend is {jax.default_backend()}, not a GPU")


def tiny_config():
  config = default.get_config()
  config.batch_size, config.num_steps = 32, 12
  config.model.width, config.model.depth = 32, 2
  config.augment.crop_scale, config.augment.flip = (0.6, 1.0), 0.0
  config.checkpoint_every_steps = config.log_every_steps = 6
  config.eval_every_epochs = 100
  return config


def test_step_in_bfloat16_is_near_that_in_float32():
  rng = np.random.default_rng(0)
  config = tiny_config()
  config.model.kernel_size = 9
  batch = {
    'image': rng.integers(0, 256, (32, 8, 8, 3), np.uint8),
    'label': rng.integers(0, 10, 32).astype(np.int32),
  }
  mesh = sharding.create_mesh(config.mesh, jax.devices()[:1])
  losses, norms = [], []
  for dtype in ('float32', 'bfloat16'):
    config.dtype = dtype
    trainer = create_trainer(config, mesh, num_classes=10, steps_per_epoch=40)
    state = trainer.create_state()
    for _ in range(2):
      state, metrics = trainer.train_step(
        state, sharding.to_global(batch, mesh)
      )
    losses.append(float(metrics.train_loss.compute()))
    norms.append(float(metrics.gradient_norm.compute()))
    assert int(metrics.skipped_steps.compute()) == 0
  assert losses[1] == pytest.approx(losses[0], rel=0.03)
  assert norms[1] == pytest.approx(norms[0], rel=0.1)


TRAIN_ON_CPU = """
import sys
from convmixer_jax.training import loop
from tests.kernels import test_gpu
config = test_gpu.tiny_config()
config.num_steps = 6
loop.train_and_evaluate(config, sys.argv[1])
"""


def test_run_from_a_cpu_is_resumed(tmp_path):
  from convmixer_jax.training import loop

  # What is there may be where the packages are.
  path = filter(None, [str(ROOT), os.environ.get('PYTHONPATH', '')])
  done = subprocess.run(
    [sys.executable, '-c', TRAIN_ON_CPU, str(tmp_path / 'run')],
    env=os.environ
    | {'PYTHONPATH': os.pathsep.join(path), 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  results = loop.train_and_evaluate(tiny_config(), str(tmp_path / 'run'))
  assert np.isfinite(results['eval_loss'])
  steps = {path.name for path in (tmp_path / 'run' / 'checkpoints').iterdir()}
  assert {'6', '12'} <= steps


def test_export_for_cuda_gives_the_logits_of_the_network():
  config = tiny_config()
  model = create_model(config.model, 10)
  images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
  variables = model.init(
    jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False
  )
  data = bytearray(to_stablehlo(model, variables, config.dataset))
  logits = export.deserialize(data).call(images)
  assert {device.platform for device in logits.devices()} == {'gpu'}
  mean, std = (
    np.float32(values) for values in (config.dataset.mean, config.dataset.std)
  )
  normalised = (images / np.float32(255) - mean) / std
  with jax.default_matmul_precision('highest'):
    expected = model.apply(variables, normalised, train=False)
  error = correctness.relative_error(logits, np.float64(expected))
  assert error < 5e-3  # its products may be in tf32


@pytest.mark.parametrize('dtype', correctness.LIMITS)
@pytest.mark.parametrize('name', CHECKS)
def test_backends_equal_references(name, dtype):
  rows = list(correctness.compare(CHECKS[name], dtype, np.random.default_rng()))
  assert [row for row in rows if not row.get('passed')] == []
  assert {row['implementation'] for row in rows} == {
    one or 'default'
    for one in operations.implementations_of(CHECKS[name], dtype)
  }


def layer(x, kernel, bias, scale, offset):
  return kernels.residual_depthwise(
    *(x, kernel, bias, scale, offset),
    activation='gelu',
    group_size=len(x),
    epsilon=1e-5,
  )[0]


def layer_gradients(x, *parameters):
  y, pull = jax.vjp(layer, x, *parameters)
  return y, *pull(y)


def layer_arrays(batch=6):
  rng = np.random.default_rng(0)

  def draw(*shape):
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)

  x = draw(batch, 20, 33, 32).astype(jnp.bfloat16)
  return x, draw(9, 9, 32), draw(32), draw(32), draw(32)


def test_default_in_bfloat16_is_the_kernels():
  text = jax.jit(layer_gradients).lower(*layer_arrays()).as_text()
  assert text.count(library.HANDLER) == 5  # two of them add partial sums


def test_kernels_give_the_same_bits_each_time():
  run, arrays = jax.jit(layer_gradients), layer_arrays()
  results = {
    b''.join(np.asarray(value).tobytes() for value in run(*arrays))
    for _ in range(20)
  }
  assert len(results) == 1


@pytest.mark.parametrize('fields', [{'scan': True}, {'remat': True}])
def test_loops_and_recomputation_give_the_gradients_of_the_network(fields):
  config = tiny_config()
  images = np.random.default_rng(0).standard_normal((8, 8, 8, 3), np.float32)
  found = []
  for changes in ({}, fields):
    config.model.update(changes)
    model = create_model(config.model, 10, 'bfloat16')
    variables = model.init(jax.random.key(0), images, train=False)

    def loss(params, model=model, stats=variables['batch_stats']):
      logits, _ = model.apply(
        {'params': params, 'batch_stats': stats},
        images,
        train=True,
        mutable=['batch_stats'],
      )
      return jnp.mean(jnp.square(logits))

    compiled = jax.jit(jax.grad(loss)).lower(variables['params']).compile()
    assert library.HANDLER in compiled.as_text()
    found.append(jax.tree.leaves(compiled(variables['params'])))
  for value, expected in zip(*found, strict=True):
    assert correctness.relative_error(value, np.float64(expected)) < 2e-2


def test_sharded_batch_gives_the_gradients_of_the_whole():
  if len(jax.devices()) < 2:
    pytest.skip('needs several GPUs')
  mesh = jax.make_mesh((2,), ('data',), axis_types=(AxisType.Auto,))
  arrays = layer_arrays()
  expected = jax.jit(layer_gradients)(*arrays)
  x = jax.device_put(arrays[0], NamedSharding(mesh, P('data')))
  rest = jax.device_put(arrays[1:], NamedSharding(mesh, P()))
  for value, right in zip(
    jax.jit(layer_gradients)(x, *rest), expected, strict=True
  ):
    assert correctness.relative_error(value, np.float64(right)) < 5e-3
