"""Several devices and several processes give what one device gives.

Each run is a `train.py` of its own: how many devices a CPU pretends to be must
be known before JAX starts.
"""

import io
import math
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import read_state
from etils import epath
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator

from configs import default, imagenet
from convmixer_jax import analysis, plots
from convmixer_jax.errors import UserError
from convmixer_jax.training import sharding
from convmixer_jax.training.assembly import assemble
from convmixer_jax.training.metrics_table import read_table

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 4
# Wide enough for fsdp to split the pointwise kernels, [2, 128, 128].
FLAGS = [
  '--config=configs/digits.py',
  f'--config.num_steps={STEPS}',
  '--config.batch_size=64',
  '--config.model.width=128',
  '--config.model.depth=2',
  '--config.mixup.mixup_alpha=0.5',
  '--config.mixup.cutmix_alpha=0.5',
  '--config.mixup.group_size=8',
  '--config.erasing.probability=0.25',
  '--config.log_every_steps=1',
  '--config.learning_rate=0.001',
]
LAYOUTS = {
  'one': (1, 1, []),
  'data=8': (8, 1, []),
  'data=4 x fsdp=2': (8, 1, ['--config.mesh.fsdp=2']),
  'two processes': (1, 2, []),
}


def start(workdir, num_devices, arguments):
  environment = os.environ | {
    'XLA_FLAGS': f'--xla_force_host_platform_device_count={num_devices}',
    'JAX_COMPILATION_CACHE_DIR': '',
  }
  return subprocess.Popen(
    [sys.executable, 'train.py', f'--workdir={workdir}', *FLAGS, *arguments],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def run(workdir, num_devices, num_processes, arguments):
  processes = []
  if num_processes > 1:
    with socket.socket() as free:
      free.bind(('localhost', 0))
      port = free.getsockname()[1]
    arguments = [
      *arguments,
      f'--coordinator_address=localhost:{port}',
      f'--num_processes={num_processes}',
    ]
  for i in range(num_processes):
    of_process = [f'--process_id={i}'] if num_processes > 1 else []
    processes.append(start(workdir, num_devices, arguments + of_process))
  for process in processes:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


def read_pictures(workdir):
  """Returns what TensorBoard shows of the last step, by name."""
  events = event_accumulator.EventAccumulator(
    str(workdir), size_guidance={'tensors': 0}
  ).Reload()
  pictures = {}
  for name in events.Tags()['tensors']:
    if name.startswith('weights/'):
      last = events.Tensors(name)[-1]
      assert last.step == STEPS
      _, _, *files = last.tensor_proto.string_val  # width and height first
      pictures[name] = [np.array(Image.open(io.BytesIO(f))) for f in files]
  return pictures


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  """Directory, metrics by step, and the final state, of each layout."""
  found = {}
  for name, layout in LAYOUTS.items():
    workdir = tmp_path_factory.mktemp('run')
    run(workdir, *layout)
    metrics = read_table(epath.Path(workdir) / 'metrics.csv')
    found[name] = workdir, metrics, read_state(workdir, STEPS)
  return found


@pytest.mark.slow
@pytest.mark.parametrize('layout', [name for name in LAYOUTS if name != 'one'])
def test_equals_one_device(results, layout):
  _, metrics, state = results[layout]
  _, one_metrics, one_state = results['one']
  assert metrics.keys() == one_metrics.keys() == set(range(1, STEPS + 1))
  for step, row in one_metrics.items():
    for name in row.keys() - {'steps_per_sec', 'images_per_sec'}:
      np.testing.assert_allclose(
        metrics[step][name], row[name], rtol=1e-4, err_msg=f'{name} at {step}'
      )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    state,
    one_state,
  )


@pytest.mark.slow
@pytest.mark.parametrize('layout', LAYOUTS)
def test_tensorboard_has_the_pictures_of_the_weights(results, layout):
  workdir, _, state = results[layout]
  pictures = read_pictures(workdir)
  kernels = jax.device_get(analysis.select_kernels(state['params']))
  assert len(kernels['patch_embedding']) == 64  # of 128
  assert pictures.keys() == {'weights/patch_embedding', 'weights/depthwise'}
  np.testing.assert_array_equal(
    pictures['weights/patch_embedding'],
    [plots.kernel_grid(kernels['patch_embedding'])],
  )
  np.testing.assert_array_equal(
    pictures['weights/depthwise'],
    [plots.kernel_grid(block[..., None]) for block in kernels['depthwise']],
  )


@pytest.mark.slow
def test_starts_from_weights_that_are_split(results, tmp_path):
  workdir, _, state = results['one']
  changes = ['--config.mesh.fsdp=2', f'--config.init_from={workdir}']
  changes += ['--config.learning_rate=0', '--config.num_steps=1']
  run(tmp_path / 'run', 2, 1, changes)
  now = read_state(tmp_path / 'run', 1)['params']
  jax.tree.map(np.testing.assert_array_equal, now, state['params'])


def test_large_arrays_are_split_over_fsdp_along_their_largest_axis():
  mesh = jax.sharding.AbstractMesh((4, 2), ('data', 'fsdp'))
  shapes = {
    'kernel': jnp.zeros((3, 64, 130)),
    'odd': jnp.zeros((129, 129)),
    'small': jnp.zeros((64, 64)),
    'step': jnp.zeros(()),
  }
  specs = jax.tree.map(
    lambda at: tuple(at.spec), sharding.state_sharding(mesh, shapes)
  )
  assert specs == {
    'kernel': (None, None, 'fsdp'),
    'odd': (),
    'small': (),
    'step': (),
  }


@pytest.mark.parametrize('fsdp', [2, 8])
def test_fsdp_divides_the_state_of_the_largest_network(fsdp):
  config = imagenet.get_config('1536_20')
  state = assemble(
    config,
    sharding.create_mesh(default.get_config().mesh),
    num_classes=1000,
    steps_per_epoch=2000,
  ).state

  def num_bytes(mesh):
    tree = {'params': state.params, 'opt_state': state.opt_state}
    sharded = sharding.with_sharding(tree, sharding.state_sharding(mesh, tree))
    return {
      name: sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(part)
      )
      for name, part in sharded.items()
    }

  names = 'data', 'fsdp'
  whole = num_bytes(jax.sharding.AbstractMesh((8, 1), names))
  split = num_bytes(jax.sharding.AbstractMesh((8 // fsdp, fsdp), names))
  assert whole['params'] == 4 * 51_625_960  # as published
  for name, size in whole.items():
    assert size / fsdp <= split[name] < 1.01 * size / fsdp


def test_a_mesh_that_does_not_fit_the_devices_is_refused():
  config = default.get_config().mesh
  config.fsdp = 3
  with pytest.raises(
    UserError, match='fsdp = 3 does not lay out the 1 devices'
  ):
    sharding.create_mesh(config)
