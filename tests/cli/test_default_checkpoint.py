"""All commands take the same checkpoint of a run, and say which one."""

import json
import shutil

import commands
import numpy as np
import pytest
from PIL import Image

from convmixer_jax.pretrained.load import load, load_for_config
from convmixer_jax.pretrained.runs import load_run


@pytest.fixture(scope='module')
def run_with_best(trained_run, tmp_path_factory):
  """A run of which the first checkpoint, of step 16, is the best."""
  run = tmp_path_factory.mktemp('runs') / 'with_best'
  shutil.copytree(trained_run, run)
  for metrics in (run / 'checkpoints').glob('*/metrics/metrics'):
    accuracy = 0.9 if metrics.parts[-3] == '16' else 0.1
    values = json.loads(metrics.read_text()) | {'eval_accuracy': accuracy}
    metrics.write_text(json.dumps(values))
  return run


@pytest.fixture(scope='module')
def run_without_best(trained_run, tmp_path_factory):
  """A run of which no checkpoint was evaluated."""
  run = tmp_path_factory.mktemp('runs') / 'without_best'
  shutil.copytree(trained_run, run)
  for step in (16, 32, 40):
    shutil.rmtree(run / 'checkpoints' / str(step))
  return run


@pytest.fixture(scope='module')
def image(tmp_path_factory):
  path = tmp_path_factory.mktemp('images') / 'image.png'
  Image.new('RGB', (8, 8)).save(path)
  return str(path)


COMMANDS = {
  'evaluate': ['--source=RUN', '--output=OUTPUT/e'],
  'predict': ['IMAGE', '--source=RUN'],
  'export': ['--source=RUN', '--output=OUTPUT/x'],
  'convert': ['RUN', 'OUTPUT/c.safetensors'],
}


@pytest.mark.slow
@pytest.mark.parametrize('name', COMMANDS)
def test_commands_take_the_best_checkpoint_else_the_newest(
  name, run_with_best, run_without_best, image, tmp_path
):
  for run, step, chosen in (
    (run_with_best, 16, 'best'),
    (run_without_best, 25, 'newest'),
  ):
    arguments = [
      argument.replace('RUN', str(run))
      .replace('OUTPUT', f'{tmp_path}/{chosen}')
      .replace('IMAGE', image)
      for argument in COMMANDS[name]
    ]
    (tmp_path / chosen).mkdir()
    done = commands.run(['convmixer_jax', name, *arguments])
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    loaded = f'Loaded {run}, step {step} ({chosen}): ConvMixer-16/2'
    assert first.startswith(loaded)


@pytest.mark.parametrize(
  'take',
  [
    lambda run: load(run),
    lambda run: load_run(run).load(),
    lambda run: load_for_config(run, load_run(run).config.model),
  ],
  ids=['load', 'Run.load', 'config.init_from'],
)
def test_functions_take_the_best_checkpoint_else_the_newest(
  take, run_with_best, run_without_best
):
  best, newest = take(str(run_with_best)), take(str(run_without_best))
  assert (best.step, best.checkpoint) == (16, 'best')
  assert best.origin == f'{run_with_best}, step 16 (best)'
  assert (newest.step, newest.checkpoint) == (25, 'newest')
  head = best.variables['params']['head']['kernel']
  assert not np.array_equal(head, newest.variables['params']['head']['kernel'])
