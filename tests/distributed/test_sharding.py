"""Several devices and several processes give what one device gives.

Each run is a `train.py` of its own: how many devices a CPU pretends to be must
be known before JAX starts. A run resumes on another layout, too.
"""

import io
import shutil

import jax
import jax.numpy as jnp
import jobs
import numpy as np
import pytest
from etils import epath
from PIL import Image
from run_files import read_state
from tensorboard.backend.event_processing import event_accumulator

from configs import default, imagenet
from convmixer_jax.analysis import plots
from convmixer_jax.checkpoints.metrics_table import read_table
from convmixer_jax.distributed import sharding
from convmixer_jax.errors import UserError
from convmixer_jax.models.convmixer.pictures import select_kernels
from convmixer_jax.training.trainer import create_trainer

STEPS = 6
# Wide enough for fsdp to split the pointwise kernels, [2, 128, 128].
FLAGS = [
  '--config=configs/digits.py',
  f'--config.num_steps={STEPS}',
  f'--config.checkpoint_every_steps={STEPS // 2}',
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
LAYOUTS = {  # devices of each process, processes, fsdp
  'one': (1, 1, 1),
  'two processes': (1, 2, 2),
  'fsdp=4': (4, 1, 4),
  'data=8': (8, 1, 1),
  'data=4 x fsdp=2': (8, 1, 2),
}


def run(workdir, layout, *flags):
  """Runs a layout in a directory."""
  num_devices, num_processes, fsdp = LAYOUTS[layout]
  jobs.Job(
    workdir,
    [*FLAGS, f'--config.mesh.fsdp={fsdp}', *flags],
    num_processes,
    num_devices,
  ).finish()


def read_pictures(workdir):
  """Returns what TensorBoard shows of the last step, by name."""
  events = event_accumulator.EventAccumulator(
    str(workdir), size_guidance={'images': 0}
  ).Reload()
  pictures = {}
  for name in events.Tags()['images']:
    last = events.Images(name)[-1]
    assert last.step == STEPS
    file = io.BytesIO(last.encoded_image_string)
    pictures[name] = np.array(Image.open(file))
  return pictures


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  """Directory, metrics by step, and the final state, of each layout."""
  directory = tmp_path_factory.mktemp('runs')
  found = {}
  for number, layout in enumerate(LAYOUTS):
    workdir = directory / str(number)
    run(workdir, layout)
    found[layout] = workdir, read_metrics(workdir), read_state(workdir, STEPS)
  return found


def read_metrics(workdir):
  return read_table(epath.Path(workdir) / 'metrics.csv')


def assert_close(metrics, expected):
  assert metrics.keys() == expected.keys()
  for step, row in expected.items():
    for name in row.keys() - {'steps_per_sec', 'images_per_sec'}:
      np.testing.assert_allclose(
        metrics[step][name], row[name], rtol=1e-4, err_msg=f'{name} at {step}'
      )


@pytest.mark.slow
@pytest.mark.parametrize('layout', [name for name in LAYOUTS if name != 'one'])
def test_metrics_and_state_equal_those_of_one_device(results, layout):
  _, metrics, state = results[layout]
  _, one_metrics, one_state = results['one']
  assert list(metrics) == list(range(1, STEPS + 1))
  assert_close(metrics, one_metrics)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    state,
    one_state,
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ('saved_by', 'layout'),
  [
    ('one', 'two processes'),
    ('two processes', 'fsdp=4'),
    ('fsdp=4', 'data=4 x fsdp=2'),
    ('data=4 x fsdp=2', 'one'),
  ],
)
def test_run_resumes_on_other_devices(results, tmp_path, saved_by, layout):
  workdir = tmp_path / 'run'
  shutil.copytree(results[saved_by][0], workdir)
  shutil.rmtree(workdir / 'checkpoints' / str(STEPS))
  (workdir / 'metrics.csv').unlink()
  run(workdir, layout)
  _, expected, _ = results['one']
  rest = {step: row for step, row in expected.items() if step > STEPS // 2}
  assert_close(read_metrics(workdir), rest)


@pytest.mark.slow
@pytest.mark.parametrize('layout', LAYOUTS)
def test_tensorboard_has_the_kernels_of_the_last_state(results, layout):
  workdir, _, state = results[layout]
  pictures = read_pictures(workdir)
  kernels = jax.device_get(select_kernels(state['params']))
  assert len(kernels['patch_embedding']) == 64  # of 128
  expected = {
    'weights/patch_embedding': plots.kernel_grid(kernels['patch_embedding'])
  }
  for i, block in enumerate(kernels['depthwise']):
    expected[f'weights/depthwise_{i:02}'] = plots.kernel_grid(block)
  assert pictures.keys() == expected.keys()
  for name, picture in expected.items():
    np.testing.assert_array_equal(pictures[name], picture, err_msg=name)


@pytest.mark.slow
def test_run_starts_from_weights_split_over_fsdp(results, tmp_path):
  workdir, _, state = results['one']
  changes = [f'--config.init_from={workdir}', '--config.num_steps=1']
  run(tmp_path / 'run', 'fsdp=4', *changes, '--config.learning_rate=0')
  now = read_state(tmp_path / 'run', 1)['params']
  jax.tree.map(np.testing.assert_array_equal, now, state['params'])


def test_large_arrays_are_split_over_fsdp_along_their_largest_axis():
  mesh = jax.sharding.AbstractMesh((4, 2), ('data', 'fsdp'))
  shapes = {
    'kernel': jnp.zeros((3, 64, 130)),
    'odd': jnp.zeros((129, 129)),
    'small': jnp.zeros((64, 64)),
    'step': jnp.zeros(()),
    'blocks': {'kernel': jnp.zeros((256, 64, 32))},
  }
  specs = jax.tree.map(
    lambda at: tuple(at.spec), sharding.state_sharding(mesh, shapes, ['blocks'])
  )
  assert specs == {
    'kernel': (None, None, 'fsdp'),
    'odd': (),
    'small': (),
    'step': (),
    'blocks': {'kernel': (None, 'fsdp')},  # never the axis of the blocks
  }


@pytest.mark.slow
@pytest.mark.parametrize('fsdp', [2, 8])
def test_fsdp_divides_the_state_of_the_largest_network(fsdp):
  config = imagenet.get_config('1536_20')
  state = create_trainer(
    config,
    sharding.create_mesh(default.get_config().mesh),
    num_classes=1000,
    steps_per_epoch=2000,
  ).state

  def num_bytes(mesh):
    tree = {'params': state.params, 'opt_state': state.opt_state}
    at = sharding.state_sharding(mesh, tree, ['blocks'])
    sharded = sharding.with_sharding(tree, at)
    return {
      name: sharding.bytes_per_device(part) for name, part in sharded.items()
    }

  names = 'data', 'fsdp'
  whole = num_bytes(jax.sharding.AbstractMesh((8, 1), names))
  split = num_bytes(jax.sharding.AbstractMesh((8 // fsdp, fsdp), names))
  assert whole['params'] == 4 * 51_625_960  # as published
  for name, size in whole.items():
    assert size / fsdp <= split[name] < 1.01 * size / fsdp


def test_mesh_that_does_not_fit_the_devices_is_refused():
  config = default.get_config().mesh
  config.fsdp = 3
  with pytest.raises(
    UserError, match='fsdp = 3 does not lay out the 1 devices'
  ):
    sharding.create_mesh(config)
