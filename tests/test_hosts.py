"""Several processes: what they must have in common, and what if one hangs."""

import collections
import os
import pathlib
import shutil
import signal
import time
from unittest import mock

import jax
import jobs
import numpy as np
import pytest
import torture
from etils import epath

from convmixer_jax.data import sources
from convmixer_jax.errors import UserError
from convmixer_jax.training import hosts
from convmixer_jax.training.metrics_table import read_table
from convmixer_jax.training.watchdog import EXIT_STATUS

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def context(tmp_path_factory):
  with mock.patch.dict(os.environ):
    yield torture.prepare(tmp_path_factory.mktemp('cache'))


def find_facts(config):
  splits = {
    'train_split': sources.create_source(config.dataset, 'train'),
    'eval_split': sources.create_source(config.dataset, 'test'),
  }
  facts = hosts.find_facts(config, epath.Path('/run'), [3, 6], splits)
  return {name: str(value) for name, value in facts.items()}


def test_facts(config):
  facts = find_facts(config)
  assert facts['config.learning_rate'] == '0.01'
  assert facts['--workdir'] == '/run'
  assert facts['checkpoints in --workdir'] == '[3, 6]'
  assert facts['images in train_split'] == '1442'
  assert facts['version of jax'] == jax.__version__
  sources_of_code = {name for name in facts if name.startswith('code of ')}
  assert 'code of convmixer_jax/training/hosts.py' in sources_of_code
  assert any(name.endswith('.cc') for name in sources_of_code)
  config.input.num_threads += 1
  config.dataset.data_dir = '/local'
  assert hosts.compare([facts, find_facts(config)]) == ''
  config.dataset.mean = (0.5, 0.5, 0.4)
  assert hosts.compare([facts, find_facts(config)]) == (
    'process 1 has config.dataset.mean = (0.5, 0.5, 0.4), process 0 has '
    '(0.5, 0.5, 0.5)'
  )


def test_other_pixels_are_another_content(config):
  facts = find_facts(config)
  source = sources.create_source(config.dataset, 'train')
  changed = [dict(source[i]) for i in range(len(source))]
  changed[-1]['image'] = changed[-1]['image'] ^ 1
  other = sources.InMemorySource(changed, source.class_names)
  now = hosts.find_facts(config, epath.Path('/run'), [], {'train_split': other})
  assert now['images in train_split'] == len(source)
  assert now['classes of train_split'] == facts['classes of train_split']
  assert now['content of train_split'] != facts['content of train_split']


def test_the_odd_one_is_named():
  usual = {'a': '1', 'b': '2'}
  assert hosts.compare([usual] * 4) == ''
  found = hosts.compare([{'a': '3', 'b': '2'}, usual, usual, {'a': '1'}])
  assert found == (
    'process 0 has a = 3, process 1 has 1; '
    'process 3 has b = none, process 0 has 2'
  )
  many = [{str(i): str(n) for i in range(9)} for n in range(2)]
  assert hosts.compare(many).endswith('; and 4 more differences')


def test_processes_that_cannot_compare_are_refused(monkeypatch):
  device = collections.namedtuple('Device', 'process_index')
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(UserError, match='give --distributed'), hosts.agreement():
    pass
  monkeypatch.setattr(jax.distributed, 'is_initialized', lambda: True)
  monkeypatch.setattr(jax, 'devices', lambda: [device(i) for i in (0, 1, 1)])
  found = 'process 0 has 1, process 1 has 2'
  with pytest.raises(UserError, match=found), hosts.agreement():
    pass


@pytest.mark.slow
def test_what_differs_is_refused_by_all(context, tmp_path):
  workdir = tmp_path / 'run'
  own = [], ['--config.learning_rate=0.02', '--config.input.prefetch=3']
  job = jobs.Job(context, workdir, of_process=own, versions={'optax': '9'})
  statuses, outputs = job.wait()
  assert statuses == [1, 1], outputs
  for number, output in enumerate(outputs):
    (line,) = (line for line in output.splitlines() if 'error' in line)
    assert line.startswith(
      f'[{number}/2] error: process 1 has config.learning_rate = 0.02, '
      'process 0 has 0.001; process 1 has version of optax = 9, process 0 has '
    )
    assert 'prefetch' not in line
  assert not workdir.exists()


@pytest.mark.slow
def test_what_stops_one_stops_all(context, tmp_path):
  workdir = tmp_path / 'run'
  own = [], ['--config.dataset.train_split=no']
  statuses, outputs = jobs.Job(context, workdir, of_process=own).wait()
  assert statuses == [1, 1], outputs
  assert "[0/2] error: process 1 stopped: 'digits' has no split" in outputs[0]
  assert "[1/2] error: 'digits' has no split" in outputs[1]
  assert not workdir.exists()


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_others(context, tmp_path):
  workdir = tmp_path / 'run'
  flags = ['--config.num_steps=100000', '--config.hang_timeout=6']
  flags += ['--config.eval_every_epochs=1000', '--config.model.width=8']
  job = jobs.Job(context, workdir, flags, of_process=([], []))
  metrics, give_up = workdir / 'metrics.csv', time.monotonic() + 300
  while not metrics.exists() or len(metrics.read_text().splitlines()) < 4:
    assert time.monotonic() < give_up and job.processes[0].is_alive()
    time.sleep(0.1)
  first, second = job.processes
  os.kill(second.pid, signal.SIGSTOP)
  stopped = time.monotonic()
  first.join(60)
  seconds = time.monotonic() - stopped
  second.kill()
  _, (output, _) = job.wait()
  assert first.exitcode == EXIT_STATUS, output
  assert seconds < 20
  (line,) = (line for line in output.splitlines() if 'error' in line)
  assert line.startswith('[0/2] error: waited 6 s for step ')
  assert line.endswith(f'goes on from the last checkpoint in {workdir}')


SHAPES = {  # devices of each process, processes, fsdp
  'one device': (1, 1, 1),
  'two processes': (1, 2, 1),
  'eight devices': (8, 1, 4),
}


@pytest.mark.slow
def test_goes_on_with_other_devices_and_processes(context, tmp_path):
  """Saved by two processes of two devices, whose next steps are compared."""
  flags = ['--config.num_steps=4', '--config.checkpoint_every_steps=2']

  def run(workdir, num_devices, num_processes, fsdp):
    statuses, outputs = jobs.Job(
      context,
      workdir,
      [*flags, f'--config.mesh.fsdp={fsdp}'],
      of_process=([],) * num_processes,
      num_devices=num_devices,
    ).wait()
    assert statuses == [0] * num_processes, outputs
    return read_table(epath.Path(workdir) / 'metrics.csv'), outputs[0]

  expected, _ = run(tmp_path / 'first', 2, 2, 2)
  assert list(expected) == [1, 2, 3, 4]
  for name, shape in SHAPES.items():
    workdir = tmp_path / name.replace(' ', '_')
    shutil.copytree(tmp_path / 'first', workdir)
    shutil.rmtree(workdir / 'checkpoints' / '4')
    (workdir / 'metrics.csv').unlink()
    found, output = run(workdir, *shape)
    assert 'Going on from step 2 of 4' in output
    assert list(found) == [3, 4]
    for step, row in found.items():
      for column in row.keys() - set(torture.SPEEDS):
        np.testing.assert_allclose(
          row[column],
          expected[step][column],
          rtol=1e-4,
          err_msg=f'{column} at {step} with {name}',
        )
