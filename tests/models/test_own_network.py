"""The network of docs/adding_a_network.md, in a file outside the package."""

import pathlib
import re
import shutil

import commands
import jax
import numpy as np
import pytest
from run_files import read_state

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'adding_a_network.md'
NAME = 'my_network:MY_NETWORK'


def run(directory, *arguments):
  return commands.run(list(arguments), directory=directory)


def train(directory, workdir, *changes):
  return run(
    directory,
    str(ROOT / 'train.py'),
    f'--config={ROOT}/configs/digits.py',
    f'--workdir={workdir}',
    f'--config.model.name={NAME}',
    '--config.model.width=8',
    '--config.num_steps=2',
    '--config.checkpoint_every_steps=1',
    *changes,
  )


@pytest.fixture
def directory(tmp_path):
  """A working directory with the file that the page shows."""
  (code,) = re.findall(
    r'```python\n(""".*?)```', PAGE.read_text(), flags=re.DOTALL
  )
  (tmp_path / 'my_network.py').write_text(code)
  return tmp_path


@pytest.mark.slow
def test_own_network_trains_resumes_evaluates_and_exports(directory):
  done = train(directory, 'run')
  assert done.returncode == 0, done.stderr
  state = read_state(directory / 'run', 2)
  assert state['params']['patches']['kernel'].shape == (12, 8)
  assert 'batch_stats' not in state or not state['batch_stats']

  shutil.copytree(directory / 'run', directory / 'again')
  shutil.rmtree(directory / 'again' / 'checkpoints' / '2')
  done = train(directory, 'again')
  assert done.returncode == 0, done.stderr
  assert 'from step 1 of 2' in done.stdout
  resumed = read_state(directory / 'again', 2)
  jax.tree.map(np.testing.assert_array_equal, resumed, state)

  done = run(directory, 'convmixer_jax', 'evaluate', '--source=run')
  assert done.returncode == 0, done.stderr
  loaded, data, *_ = done.stdout.splitlines()
  assert loaded == 'Loaded run, step 2 (best): BagOfPatches'
  assert data.startswith('digits test: 355 images')

  done = train(directory, 'new', '--config.init_from=run', '--config.new_head')
  assert done.returncode == 0, done.stderr
  assert 'Starting from run, step' in done.stdout

  tool = ('convmixer_jax', 'export', '--source=run', '--output=files')
  done = run(directory, *tool)
  assert done.returncode == 0, done.stderr
  assert (directory / 'files' / 'model.stablehlo').exists()
  done = run(directory, *tool, '--format=onnx')
  (line,) = done.stderr.splitlines()
  assert line.startswith('error: --format=onnx is for convmixer, ')
  assert line.endswith(', not for BagOfPatches; use --format=stablehlo')
  done = run(directory, 'convmixer_jax', 'convert', 'run', 'x.safetensors')
  assert done.returncode == 1
  assert done.stderr.startswith('error: ')
  assert f"'{NAME}' has no state_dict" in done.stderr


def test_fields_of_an_own_network_are_checked(directory):
  for change, message in {
    '--config.model.heads=3': (
      f"--config.model.heads is not a field of '{NAME}', which has width, "
      'patch_size, dropout'
    ),
    '--config.model.width=0': ('config.model.width = 0 is not at least 1'),
  }.items():
    done = train(directory, 'none', change)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f'error: {message}'
    assert not (directory / 'none').exists()
