"""Runs in a bucket: what is written there, and read from there."""

import csv
import io
import json
import os
import pathlib
import subprocess
import sys

import buckets
import commands
import jax
import jobs
import numpy as np
import pytest
import small_run
from run_files import SPEED, read_state
from tensorboard.backend.event_processing import event_file_loader
from tiny_archives import jpeg

pytestmark = buckets.marks()

ROOT = pathlib.Path(__file__).parents[2]
NUM_STEPS, EVERY = 24, 6  # an epoch is 22
FLAGS = [
  *small_run.WITH_MIXUP,
  f'--config.num_steps={NUM_STEPS}',
  '--config.log_every_steps=3',
  f'--config.checkpoint_every_steps={EVERY}',
  '--config.keep_checkpoints=2',
]


@pytest.fixture(scope='module')
def bucket():
  with buckets.serve() as bucket:
    yield bucket


@pytest.fixture(scope='module')
def run(bucket):
  """Runs a command that must succeed and print nothing to stderr."""

  def run(*arguments):
    done = commands.run(list(arguments), bucket.environment)
    assert (done.returncode, commands.complaints(done)) == (0, []), done
    return done.stdout

  return run


@pytest.fixture(scope='module')
def local(tmp_path_factory):
  """The directory of the same run on this machine, never disturbed."""
  directory = tmp_path_factory.mktemp('local') / 'run'
  done = commands.run(['train.py', f'--workdir={directory}', *FLAGS])
  assert (done.returncode, commands.complaints(done)) == (0, [])
  return directory


@pytest.fixture(scope='module')
def finished(bucket):
  """The name of a run that reached its end and printed nothing to stderr.

  It is not forked: libraries have their say when Python exits.
  """
  done = subprocess.run(
    [sys.executable, 'train.py', '--workdir=gs://bucket/finished', *FLAGS],
    env=os.environ
    | bucket.environment
    | {
      'GLIBC_TUNABLES': '',
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': '--xla_backend_optimization_level=0',  # as in forks.py
    },
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, commands.complaints(done)) == (0, []), done
  return 'finished'


def rows(content):
  """Returns the rows of metrics.csv, without speeds."""
  return [
    {name: text for name, text in row.items() if name not in SPEED}
    for row in csv.DictReader(io.StringIO(content))
  ]


def steps(bucket, name):
  """Returns the steps there are checkpoints of, whole or not."""
  names = bucket.names(f'{name}/checkpoints/')
  return {int(path.split('/')[2]) for path in names}


def committed(bucket, name):
  """Returns the steps there are whole checkpoints of."""
  names = set(bucket.names(f'{name}/checkpoints/'))
  return {
    step
    for step in steps(bucket, name)
    if f'{name}/checkpoints/{step}/commit_success.txt' in names
  }


def assert_equals_local_run(bucket, name, local, directory):
  """Compares the last state bit for bit, and metrics.csv line for line."""
  step = str(NUM_STEPS)
  bucket.download(
    f'{name}/checkpoints/{step}', directory / 'checkpoints' / step
  )
  found, expected = (read_state(d, NUM_STEPS) for d in (directory, local))
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  table = bucket.read(f'{name}/metrics.csv').decode()
  assert rows(table) == rows((local / 'metrics.csv').read_text())


def test_run_in_a_bucket_writes_the_same_files_as_a_local_run(
  bucket, finished, local, tmp_path
):
  assert_equals_local_run(bucket, finished, local, tmp_path)
  assert committed(bucket, finished) == {NUM_STEPS - EVERY, NUM_STEPS}
  there = {name.split('/')[1] for name in bucket.names(f'{finished}/')}
  there = {name for name in there if 'tfevents' not in name}
  assert there == {
    path.name for path in local.iterdir() if 'tfevents' not in path.name
  }


def test_tensorboard_events_are_written_to_the_bucket(
  bucket, finished, tmp_path
):
  names = [n for n in bucket.names(f'{finished}/') if 'tfevents' in n]
  assert len(names) == 3
  tags = set()
  for number, name in enumerate(names):
    path = tmp_path / f'events.out.tfevents.{number}'
    path.write_bytes(bucket.read(name))
    part = name.split('/')[1] if name.count('/') == 2 else ''
    for event in event_file_loader.EventFileLoader(str(path)).Load():
      tags |= {(part, value.tag) for value in event.summary.value}
  assert tags >= {
    ('train', 'metrics/loss'),
    ('eval', 'metrics/accuracy'),
    ('', 'config/text_summary'),
  }


def test_checksums_match_the_objects_in_the_bucket(bucket, finished, tmp_path):
  prefix = f'{finished}/checkpoints/{NUM_STEPS}'
  bucket.download(prefix, tmp_path)
  command = ['sha256sum', '--check', '--quiet', 'SHA256SUMS']
  subprocess.run(command, cwd=tmp_path, check=True)


def test_run_killed_while_saving_resumes_bit_for_bit(
  bucket, run, local, tmp_path
):
  flags = [*FLAGS, '--workdir=gs://bucket/killed']
  newest = 2 * EVERY
  commit = f'killed/checkpoints/{newest}/commit_success.txt'
  with buckets.hold(bucket, commit) as (environment, arrived):
    job = jobs.Job(tmp_path / 'run', flags, environment=environment)
    (process,) = job.processes
    assert arrived.wait(jobs.STUCK_AFTER), job.output()
    process.kill()
    process.join()
  assert newest in steps(bucket, 'killed')
  assert committed(bucket, 'killed') == {EVERY}
  output = run('train.py', *flags)
  assert f'Resuming from step {newest - EVERY} of {NUM_STEPS}\n' in output
  assert 'damaged' not in output
  assert_equals_local_run(bucket, 'killed', local, tmp_path)


def test_damaged_checkpoint_is_moved_and_the_previous_one_restored(
  bucket, finished, run, local, tmp_path
):
  bucket.copy(finished, 'damaged')
  prefix = f'damaged/checkpoints/{NUM_STEPS}'
  before = bucket.names(f'{prefix}/')
  victim = next(name for name in before if '/state/d/' in name)
  content = bytearray(bucket.read(victim))
  content[len(content) // 2] ^= 1
  bucket.write(victim, bytes(content))
  output = run('train.py', '--workdir=gs://bucket/damaged', *FLAGS)
  aside = f'damaged/checkpoints/damaged-{NUM_STEPS}'
  assert (
    f'has changed since it was written): moved to gs://bucket/{aside}\n'
    in (output)
  )
  assert f'Resuming from step {NUM_STEPS - EVERY} of {NUM_STEPS}\n' in output
  assert bucket.names(f'{aside}/') == [
    name.replace(prefix, aside) for name in before
  ]
  assert_equals_local_run(bucket, 'damaged', local, tmp_path)


def test_run_in_a_bucket_is_evaluated_exported_and_used_for_prediction(
  bucket, finished, run, local, tmp_path
):
  there, here = '--source=gs://bucket/finished', f'--source={local}'
  output = run(
    *('convmixer_jax', 'evaluate', f'{there}@best'),
    '--output=gs://bucket/evaluation',
  )
  assert 'In gs://bucket/evaluation: result.json' in output
  run('convmixer_jax', 'evaluate', here, f'--output={tmp_path}')
  found = json.loads(bucket.read('evaluation/result.json'))
  expected = json.loads((tmp_path / 'result.json').read_bytes())
  for key in ('eval_loss', 'eval_accuracy', 'images', 'classes'):
    assert found[key] == expected[key]

  run('convmixer_jax', 'export', there, '--output=gs://bucket/exported')
  run('convmixer_jax', 'export', here, f'--output={tmp_path}')
  for name in ('model.stablehlo', 'model.json'):
    assert f'exported/{name}' in bucket.names('exported/')
  labels = json.loads(bucket.read('exported/model.json'))['labels']
  assert labels == json.loads((tmp_path / 'model.json').read_bytes())['labels']

  (tmp_path / 'a.jpg').write_bytes(jpeg())
  arguments = ['convmixer_jax', 'predict', str(tmp_path / 'a.jpg')]
  first, *lines = run(*arguments, there).splitlines()
  assert first.startswith('Loaded gs://bucket/finished, step ')
  assert lines == run(*arguments, here).splitlines()[1:]


def test_weights_converted_to_a_bucket_start_a_run(
  bucket, finished, run, local
):
  source, file = 'gs://bucket/finished', 'gs://bucket/weights/a.safetensors'
  directory = 'gs://bucket/converted'
  run('convmixer_jax', 'convert', source, file)
  run('convmixer_jax', 'convert', file, directory)
  outputs = [
    run(
      'train.py',
      *FLAGS,
      f'--workdir=gs://bucket/started{i}',
      f'--config.init_from={start}',
      '--config.num_steps=1',
    )
    for i, start in enumerate([source, file, directory, local])
  ]
  assert f'Starting from {source}, step ' in outputs[0]
  assert f'Starting from {file}; with its head' in outputs[1]
  assert (
    f'Starting from {directory}, step 0 (newest); with its head' in outputs[2]
  )
  losses = {
    rows(bucket.read(f'started{i}/metrics.csv').decode())[-1]['eval_loss']
    for i in range(len(outputs))
  }
  assert len(losses) == 1


def test_resuming_with_another_config_is_refused(bucket, finished):
  arguments = ['train.py', '--workdir=gs://bucket/finished', *FLAGS]
  before = bucket.names()
  done = commands.run(
    [*arguments, '--config.model.width=4'], bucket.environment
  )
  assert done.returncode == 1
  assert done.stderr == (
    'error: --workdir=gs://bucket/finished holds a run with another config: '
    'model.width (8 -> 4); give the old values or a new --workdir\n'
  )
  assert bucket.names() == before


def test_checkpoint_of_two_processes_is_resumed_by_one(bucket, run, tmp_path):
  flags = [*FLAGS, '--workdir=gs://bucket/two']
  half = f'--config.num_steps={NUM_STEPS // 2}'
  jobs.Job(
    tmp_path / 'run',
    [*flags, half],
    num_processes=2,
    environment=bucket.environment,
  ).finish()
  assert NUM_STEPS // 2 in committed(bucket, 'two')
  events = [name for name in bucket.names('two/') if 'tfevents' in name]
  assert len(events) == 3  # of the first process
  output = run('train.py', *flags)
  assert f'Resuming from step {NUM_STEPS // 2} of {NUM_STEPS}\n' in output
