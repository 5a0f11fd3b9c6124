"""Memory and collectives of compiled steps on 8 devices."""

import json

import commands
import jax
import plan_process
import pytest

from configs import default
from convmixer_jax.distributed import sharding
from convmixer_jax.training.trainer import create_trainer


@pytest.fixture(scope='module')
def steps(tmp_path_factory):
  """The step of a network on 8 devices, compiled for each layout."""
  out = tmp_path_factory.mktemp('plan') / 'steps.json'
  done = commands.run([plan_process.__file__, out], num_devices=8)
  assert done.returncode == 0, done.stderr
  return json.loads(out.read_text())


def state_of(layout):
  config = plan_process.config_of(layout)
  mesh = sharding.create_mesh(default.get_config().mesh)
  return create_trainer(
    config, mesh, num_classes=plan_process.NUM_CLASSES, steps_per_epoch=10
  ).state


def num_bytes(tree):
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
def test_memory_of_the_state_is_counted_exactly(steps):
  state = state_of('unrolled')
  memory = steps['unrolled']['memory']
  assert memory['parameters'] == num_bytes(state.params)
  assert memory['BatchNorm statistics'] == num_bytes(state.batch_stats)
  assert memory['optimizer'] == num_bytes(state.opt_state)
  images, labels, step = 8 * 8 * 8 * 3, 8 * 4, 4
  assert memory['batch, padding'] == images + labels + step
  assert memory['activations, temporaries'] > 8 * 8 * 8 * 128 * 4


@pytest.mark.slow
def test_fsdp_halves_the_large_kernels(steps):
  kernels = 2 * 128 * 128 * 4  # [depth, width, width], float32
  whole, split = steps['unrolled']['memory'], steps['fsdp']['memory']
  assert whole['parameters'] - split['parameters'] == kernels / 2
  assert whole['optimizer'] - split['optimizer'] == 2 * kernels / 2
  kinds = {found['kind'] for found in steps['fsdp']['collectives']}
  assert 'all-gather' in kinds


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['unrolled', 'scan'])
def test_step_reduces_gradients_statistics_and_metrics_once(steps, layout):
  state = state_of(layout)
  (found,) = (
    each
    for each in steps[layout]['collectives']
    if each['kind'] == 'all-reduce'
  )
  assert found['dtype'] == 'f32'
  loss_and_accuracy = 2 * 4
  assert found['num_bytes'] == loss_and_accuracy + num_bytes(
    (state.params, state.batch_stats)
  )
