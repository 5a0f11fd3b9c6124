"""All but preparing a data set works where TensorFlow is not installed.

Each command runs in a process in which `import tensorflow` raises; the notebook
in `test_notebooks.py`.
"""

import importlib.util
import pathlib
import subprocess
import sys

import no_tensorflow
import pytest
import tiny_sets

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """Runs a command of Python; returns the process, which has ended."""
  environment = no_tensorflow.environment(tmp_path_factory.mktemp('site'))

  def run(*arguments):
    return subprocess.run(
      [sys.executable, *map(str, arguments)],
      env=environment,
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=False,
    )

  assert 'ModuleNotFoundError' in run('-c', 'import tensorflow').stderr
  return run


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """A directory with a prepared set of 12 images of 8 x 8."""
  directory = tmp_path_factory.mktemp('tfds')
  tiny_sets.write_set(directory, tiny_sets.examples(12))
  return directory


@pytest.fixture(scope='module')
def workdir(run, data_dir, tmp_path_factory):
  """The directory of a run on that set, with worker processes."""
  workdir = tmp_path_factory.mktemp('runs') / 'tiny'
  done = run(
    'train.py',
    '--config=configs/digits.py',
    f'--workdir={workdir}',
    '--config.dataset.name=tiny',
    f'--config.dataset.data_dir={data_dir}',
    '--config.dataset.eval_split=train',
    '--config.model.width=8',
    '--config.model.depth=1',
    '--config.batch_size=4',
    '--config.num_steps=3',
    '--config.input.num_workers=2',
    '--config.profile=True',
  )
  assert done.returncode == 0, done.stderr
  assert 'eval_accuracy = ' in done.stdout
  return workdir


@pytest.mark.slow
def test_demo_trains(run, tmp_path):
  done = run(
    'train.py',
    '--config=configs/digits.py',
    f'--workdir={tmp_path / "run"}',
    '--config.num_steps=2',
  )
  assert done.returncode == 0, done.stderr
  assert list((tmp_path / 'run').glob('events.out.tfevents*'))


@pytest.mark.slow
@pytest.mark.parametrize(
  ('tool', 'flags'),
  [
    ('evaluate', ['--source={workdir}', '--output={tmp_path}/out']),
    ('predict', ['{tmp_path}/image.png', '--source={workdir}']),
    (
      'export',
      [
        '--source={workdir}',
        '--output={tmp_path}/out',
        '--format=stablehlo,onnx',
      ],
    ),
    ('convert', ['{workdir}', '{tmp_path}/out.safetensors']),
    ('prepare', ['tiny', '--data_dir={data_dir}']),  # counts what is there
  ],
)
def test_command_works(run, workdir, data_dir, tmp_path, tool, flags):
  (tmp_path / 'image.png').write_bytes(tiny_sets.encode(tiny_sets.noise()))
  values = {'workdir': workdir, 'data_dir': data_dir, 'tmp_path': tmp_path}
  flags = [flag.format(**values) for flag in flags]
  done = run('-m', 'convmixer_jax', tool, *flags)
  assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_plan_needs_only_its_compiler(run):
  done = run(
    '-m',
    'convmixer_jax',
    'plan',
    '--config=configs/digits.py',
    '--topology=v5e:2x2',
    '--nosearch',
  )
  if importlib.util.find_spec('libtpu'):
    assert done.returncode == 0, done.stderr
  else:
    assert done.stderr.startswith('error: a plan for a TPU needs its compiler')


@pytest.mark.slow
def test_preparing_is_refused_with_the_command_to_install_tensorflow(
  run, tmp_path
):
  done = run(
    '-m', 'convmixer_jax', 'prepare', 'cifar10', f'--data_dir={tmp_path}/new'
  )
  assert done.returncode == 1
  assert done.stderr == (
    'error: preparing or converting a data set needs TensorFlow, reading one '
    "does not; install it: pip install 'convmixer-jax[prepare]', or, in a "
    'checkout, pip install -r requirements-prepare.txt\n'
  )
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_unprepared_set_is_reported_with_the_command_to_prepare_it(
  run, tmp_path
):
  done = run(
    'train.py',
    '--config=configs/cifar10.py',
    f'--workdir={tmp_path}/run',
    f'--config.dataset.data_dir={tmp_path}',
  )
  assert done.returncode == 1
  assert done.stderr.startswith("error: data set 'cifar10' is not prepared")
  assert not list(tmp_path.iterdir())
