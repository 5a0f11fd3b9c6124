"""`load_run`: what a run left comes back, and nothing is written to it."""

import contextlib
import json
import shutil
import subprocess
import sys

import devices
import jax
import numpy as np
import pytest
from etils import epath
from run_files import read_state

import convmixer_jax
from convmixer_jax import config as config_lib
from convmixer_jax.checkpoints.reader import CheckpointReader
from convmixer_jax.data import sources
from convmixer_jax.errors import UserError
from convmixer_jax.models import find_architecture


def contents(directory):
  return {
    path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
    for path in directory.rglob('*')
  }


def test_loading_a_run_restores_its_checkpoints_and_writes_nothing(trained_run):
  before = contents(trained_run)
  run = convmixer_jax.load_run(trained_run)
  assert run.workdir == trained_run
  assert [row['step'] for row in run.metrics] == [1, 16, 20, 32, 40]
  assert run.class_names == tuple('0123456789')

  accuracies = {
    row['step']: row['eval_accuracy']
    for row in run.metrics
    if 'eval_accuracy' in row
  }
  best = max(accuracies, key=lambda step: (accuracies[step], step))
  for step, expected in (
    ('newest', 40),
    (25, 25),
    (32, 32),
    ('best', best),
    (None, best),
  ):
    trained = run.load(step)
    assert trained.step == run.find_step(step) == expected
    state = read_state(trained_run, expected)
    assert set(trained.variables) == {'params', 'batch_stats'}
    for name, tree in trained.variables.items():
      jax.tree.map(np.testing.assert_array_equal, tree, state[name])
    model = trained.model
    assert (model.num_classes, model.depth) == (10, 2)
  assert contents(trained_run) == before


def test_load_takes_the_best_checkpoint_of_a_run(trained_run):
  run = convmixer_jax.load_run(trained_run)
  trained = convmixer_jax.load(trained_run)
  assert trained.step == run.find_step('best')
  assert trained.checkpoint == 'best'
  assert trained.origin == f'{trained_run}, step {trained.step} (best)'
  row = {row['step']: row for row in run.metrics}[trained.step]
  assert trained.metrics['eval_accuracy'] == row['eval_accuracy']
  newest = convmixer_jax.load(f'{trained_run}@newest')
  assert (newest.step, newest.checkpoint) == (40, 'newest')
  assert convmixer_jax.load(f'{trained_run}@25').metrics == {}


def test_restored_network_has_the_metrics_of_the_run(trained_run):
  run = convmixer_jax.load_run(trained_run)
  trained = run.load('newest')
  source = sources.create_source(run.config.dataset, 'test')
  images = np.stack([source[i]['image'] for i in range(len(source))])
  labels = np.array([source[i]['label'] for i in range(len(source))])
  logits = np.asarray(
    trained.model.apply(
      trained.variables, (images / 255 - 0.5) / 0.25, train=False
    ),
    np.float64,
  )
  losses = np.log(np.exp(logits).sum(-1)) - logits[range(len(labels)), labels]
  measured = run.metrics[-1]
  assert losses.mean() == pytest.approx(measured['eval_loss'], rel=1e-5)
  accuracy = np.mean(logits.argmax(-1) == labels)
  assert accuracy == pytest.approx(measured['eval_accuracy'])


def test_flipped_bit_of_a_weight_is_refused(trained_run, tmp_path):
  """Orbax itself would read another weight; see checkpoints/checksums.py."""
  copy = shutil.copytree(trained_run, tmp_path / 'run')
  state = copy / 'checkpoints' / '40' / 'state'
  largest = max(state.rglob('*'), key=lambda path: path.stat().st_size)
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 1
  largest.write_bytes(bytes(content))
  run = convmixer_jax.load_run(copy)
  with pytest.raises(UserError, match='has changed since it was written'):
    run.load('newest')
  assert run.load(32).step == 32


def test_config_of_a_run_can_start_another_run(trained_run, config):
  run = convmixer_jax.load_run(str(trained_run))
  assert type(run.config.dataset.mean) is tuple
  config_lib.validate(run.config)
  assert (
    config_lib.flatten(run.config).keys() == config_lib.flatten(config).keys()
  )
  run.config.update_from_flattened_dict({'model.width': 4, 'num_steps': 1})
  run.config.model.depthwise = 'xla'
  assert run.load().model.width == 16


def test_missing_step_is_refused_with_the_list(trained_run):
  run = convmixer_jax.load_run(trained_run)
  with pytest.raises(UserError, match=r'those of steps 16, 25, 32, 40$'):
    run.load(6)


def test_config_that_does_not_fit_the_checkpoint_is_refused(
  trained_run, tmp_path
):
  shutil.copytree(trained_run, tmp_path / 'run')
  path = tmp_path / 'run' / 'config.json'
  config = json.loads(path.read_text())
  config['model']['width'] *= 2
  path.write_text(json.dumps(config))
  with pytest.raises(UserError, match=r'config.json and checkpoint \d+ do not'):
    convmixer_jax.load_run(tmp_path / 'run').load()


def test_run_without_checkpoints_is_loaded_but_not_restored(
  trained_run, tmp_path
):
  shutil.copy(trained_run / 'config.json', tmp_path)
  run = convmixer_jax.load_run(tmp_path)
  assert run.metrics == [] and run.class_names is None
  with pytest.raises(UserError, match='has no checkpoint yet'):
    run.load()
  assert [path.name for path in tmp_path.iterdir()] == ['config.json']


def test_best_step_without_evaluations_is_refused(trained_run, tmp_path):
  shutil.copy(trained_run / 'config.json', tmp_path)
  shutil.copytree(
    trained_run / 'checkpoints' / '25', tmp_path / 'checkpoints' / '25'
  )
  run = convmixer_jax.load_run(tmp_path)
  with pytest.raises(UserError, match=r'best; it has that of step 25$'):
    run.load('best')


@pytest.mark.parametrize('content', ['{', '3', '{"eval_accuracy": "high"}'])
def test_damaged_metrics_are_refused_in_one_line(
  trained_run, tmp_path, content
):
  run_directory = tmp_path / 'run'
  shutil.copytree(trained_run, run_directory)
  step = run_directory / 'checkpoints' / '25'
  (step / 'metrics').mkdir(exist_ok=True)
  (step / 'metrics' / 'metrics').write_text(content)
  run = convmixer_jax.load_run(run_directory)
  with pytest.raises(UserError, match='checkpoints/25 is damaged or not a ch'):
    run.load()


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (None, 'is not a run directory'),
    ('[1]', 'is not a config of a run'),
    ('{"model": ', 'is not a config of a run'),
    ('{"a": 1}', 'is not a config of a run'),
  ],
)
def test_directory_that_is_not_a_run_is_refused(tmp_path, text, message):
  if text is not None:
    (tmp_path / 'config.json').write_text(text)
  with pytest.raises(UserError, match=message) as error:
    convmixer_jax.load_run(tmp_path)
  assert '\n' not in str(error.value)


def test_importing_the_package_imports_no_large_library():
  code = 'import sys, convmixer_jax; print(*sys.modules)'
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert not {'jax', 'flax', 'orbax', 'numpy'} & set(done.stdout.split())
  with pytest.raises(AttributeError, match='no attribute'):
    convmixer_jax.no_such_name  # noqa: B018


def test_checkpoint_of_several_devices_is_read_on_one(trained_run, tmp_path):
  """Four devices that each hold a quarter write; this process has one."""
  shutil.copy(trained_run / 'config.json', tmp_path)
  code = f"""
import jax, numpy as np
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec
from convmixer_jax.checkpoints.checkpointer import Checkpointer, Progress
from convmixer_jax.training.tasks import ONE_CLASS
from convmixer_jax.checkpoints.train_state import TrainState
mesh = jax.make_mesh((4,), ('fsdp',))
split = NamedSharding(mesh, PartitionSpec('fsdp'))
kernel = jax.device_put(np.arange(32.).reshape(8, 4), split)
params = {{'head': {{'kernel': kernel, 'bias': np.zeros(4)}}}}
stats = {{'patch_bn': {{'mean': np.zeros(8)}}}}
writer = Checkpointer(epath.Path({str(tmp_path)!r}), keep=1)
progress = Progress(ONE_CLASS.empty_window())
writer.save(TrainState(np.int32(3), params, stats, ()), progress)
writer.close()
"""
  devices.run(code, 4)
  with contextlib.closing(CheckpointReader(epath.Path(tmp_path))) as reader:
    variables = reader.read_variables(3)
  assert find_architecture('convmixer').num_classes(variables['params']) == 4
  kernel = variables['params']['head']['kernel']
  assert len(kernel.devices()) == 1
  np.testing.assert_array_equal(kernel, np.arange(32.0).reshape(8, 4))
