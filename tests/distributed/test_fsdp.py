"""With fsdp, each block gathers its own parameters, and only for its use."""

import functools
import json
import pathlib

import devices
import numpy as np
import pytest

from convmixer_jax.models import MODELS

DEPTH = 5
# Of networks that have other fields than width and depth: with a stack of that
# many blocks.
FIELDS = {'resnet': {'depths': (1 + DEPTH, 1, 1, 1), 'widths': (32, 8, 8, 8)}}
SUPPORT = str(pathlib.Path(devices.__file__).parent)
NAMES = [*MODELS, 'stacked_network:STACKED']
# Where parameters are split that are small enough for a test.
SETUP = f"""
import json, re, sys
sys.path.insert(0, {SUPPORT!r})
import jax, jax.numpy as jnp, numpy as np
from configs import digits
from convmixer_jax import models
from convmixer_jax.planning import hlo
from convmixer_jax.distributed import sharding
from convmixer_jax.training.trainer import create_trainer

sharding._REPLICATE_BELOW = 2**9
OPTIONS = {{}}  # of the config

def create(name, num_devices, fsdp, **fields):
  config = digits.get_config()
  fields |= {FIELDS}.get(name, dict(width=128, depth={DEPTH}))
  config.model = models.model_config(name, **fields)
  config.batch_size, config.num_steps, config.mesh.fsdp = 64, 4, fsdp
  config.dataset.image_size = 16  # kernels over patches are larger than biases
  config.update(OPTIONS)
  mesh = sharding.create_mesh(config.mesh, jax.devices()[:num_devices])
  trainer = create_trainer(config, mesh, num_classes=10, steps_per_epoch=4)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (64, 16, 16, 3), np.uint8)
  labels = rng.integers(0, 10, 64).astype(np.int32)
  batch = {{'image': images, 'label': labels, 'mask': np.ones(64, np.float32)}}
  return trainer, sharding.to_global(batch, mesh)
"""
COMPILE = """
trainer, batch = create(sys.argv[1], 8, 2, scan=sys.argv[2] == 'scan')
del batch['mask']
compiled = trainer.train_step.lower(trainer.state, batch).compile()
module = hlo.parse(compiled.as_text())
collectives = [
  [instruction.opcode, runs, instruction.arrays[-1].size]
  for computation, runs in module.executions.items()
  for instruction in module.computations[computation].values()
  if re.match('all-|reduce-scatter|collective', instruction.opcode)
]
stacked = models.find_architecture(sys.argv[1]).stacked
kernels = [
  [path[0].key in stacked, leaf.shape]
  for path, leaf in jax.tree_util.tree_leaves_with_path(trainer.state.params)
  if path[-1].key == 'kernel'
]
print(json.dumps({
  'collectives': collectives,
  'kernels': [shape for is_stacked, shape in kernels if is_stacked],
  'others': [shape for is_stacked, shape in kernels if not is_stacked],
  'arrays': re.findall(r'f32\\[([\\d,]+)\\]', compiled.as_text()),
}))
"""
TRAIN = """
def run(*layout, **fields):
  trainer, batch = create(sys.argv[1], *layout, **fields)
  state = trainer.create_state({})
  for _ in range(2):
    state, metrics = trainer.train_step(state, batch)
  evaluated = trainer.eval_step(state, batch)
  found = metrics, evaluated, state.params, state.ema
  return trainer, jax.device_get(found)

OPTIONS |= json.loads(sys.argv[2])
_, expected = run(1, 1, scan=True)
trainer, found = run(8, 4, scan=True)
stacked = models.find_architecture(sys.argv[1]).stacked
for path, leaf in jax.tree_util.tree_leaves_with_path(trainer.state.params):
  if path[0].key in stacked and path[-1].key == 'kernel':
    assert 'fsdp' in leaf.sharding.spec[1:], path
jax.tree.map(
  lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
  found, expected
)
"""


@functools.cache
def compile_step(name, how):
  """Returns collectives `[opcode, runs, elements]` and shapes.

  Those of the kernels in stacks, of other kernels, and of all arrays.
  """
  found = json.loads(devices.run(SETUP + COMPILE, 8, name, how))
  return tuple(found[k] for k in ('collectives', 'kernels', 'others', 'arrays'))


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_each_block_gathers_its_kernels_in_both_loops(name):
  collectives, kernels, *_ = compile_step(name, 'scan')
  sizes = [int(np.prod(shape[1:])) for shape in kernels]
  inside = [size for _, runs, size in gathers(collectives) if runs == DEPTH]
  outside = [size for _, runs, size in gathers(collectives) if runs == 1]
  is_kernel = min(sizes).__le__
  assert sorted(filter(is_kernel, inside)) == sorted(2 * sizes)
  assert len(inside) + len(outside) == len(gathers(collectives))
  assert max(outside) < DEPTH * min(sizes)


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_no_device_ever_holds_all_kernels_or_their_gradients(name):
  _, kernels, _, shapes = compile_step(name, 'scan')
  for depth, *shape in kernels:
    assert ','.join(map(str, (1, *shape))) in shapes
    assert ','.join(map(str, (depth, *shape))) not in shapes


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('how', ['scan', 'unrolled'])
def test_activations_stay_where_they_are(name, how):
  """They would if parameters, gradients or statistics split them."""
  collectives, *_ = compile_step(name, how)
  assert {opcode for opcode, *_ in collectives} == {'all-gather', 'all-reduce'}


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_unrolled_blocks_gather_again_for_the_backward_pass(name):
  collectives, kernels, others, _ = compile_step(name, 'unrolled')
  sizes = [int(np.prod(shape[1:])) for shape in kernels]
  once = [int(np.prod(shape)) for shape in others]  # for both passes
  expected = [n for n in 2 * DEPTH * sizes + once if n >= min(sizes)]
  found = [size for *_, size in gathers(collectives) if size >= min(sizes)]
  assert sorted(found) == sorted(expected)


def gathers(collectives):
  return [each for each in collectives if each[0] == 'all-gather']


# All networks are trained in the next test.
@pytest.mark.slow
@pytest.mark.parametrize('name', ['convmixer', 'stacked_network:STACKED'])
def test_training_and_evaluation_equal_those_of_one_device(name):
  devices.run(SETUP + TRAIN, 8, name, '{}')


@pytest.mark.slow
@pytest.mark.parametrize('name', MODELS)
def test_lamb_with_decay_of_layers_and_ema_equals_that_of_one_device(name):
  options = {'optimizer': 'lamb', 'layer_lr_decay': 0.7, 'ema_decay': 0.5}
  devices.run(SETUP + TRAIN, 8, name, json.dumps(options))
