"""Memory and collectives of compiled steps on 8 devices."""

import json
import types

import commands
import jax
import plan_process
import pytest

from configs import default
from convmixer_jax import models
from convmixer_jax.distributed import sharding
from convmixer_jax.planning import compilation
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


def test_averages_and_frozen_maps_have_their_own_name():
  config = default.get_config()
  config.model = models.model_config(
    'isotropic', width=8, depth=2, patch_size=8, token_mixer='random'
  )
  config.dataset.image_size, config.ema_decay = 32, 0.9
  mesh = sharding.create_mesh(config.mesh)
  state = create_trainer(config, mesh, num_classes=10, steps_per_epoch=10).state
  analysis = types.SimpleNamespace(
    argument_size_in_bytes=num_bytes(state),
    temp_size_in_bytes=5,
    output_size_in_bytes=7,
    alias_size_in_bytes=7,
    generated_code_size_in_bytes=2,
  )
  memory = compilation.memory_by_kind(analysis, state)
  maps = 2 * 16**2 * 4  # of two blocks, over 4 x 4 patches, float32
  assert memory['arrays that stay as drawn'] == maps
  assert memory['BatchNorm statistics'] == num_bytes(state.batch_stats) - maps
  assert memory['optimizer'] == num_bytes(state.opt_state)
  assert memory['moving averages'] == num_bytes(state.ema)
  assert memory['moving averages'] == num_bytes(
    (state.params, state.batch_stats)
  )
  assert sum(memory.values()) == num_bytes(state) + 5 + 2
  state = state.replace(ema={}, batch_stats={})
  names = compilation.memory_by_kind(analysis, state)
  assert not {'moving averages', 'arrays that stay as drawn'} & names.keys()


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
