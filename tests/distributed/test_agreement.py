"""Several processes: what they must have in common, and what if one hangs."""

import collections
import os
import signal
import time

import jax
import jobs
import pytest
import small_run
from etils import epath

from convmixer_jax.data import examples, sources
from convmixer_jax.distributed import agreement
from convmixer_jax.distributed.watchdog import EXIT_STATUS
from convmixer_jax.errors import UserError


def find_facts(config):
  splits = {
    'train_split': sources.create_source(config.dataset, 'train'),
    'eval_split': sources.create_source(config.dataset, 'test'),
  }
  facts = agreement.collect_fingerprint(
    config, epath.Path('/run'), [3, 6], splits
  )
  return {name: str(value) for name, value in facts.items()}


def test_fingerprint_has_config_data_and_code_but_not_input_threads(config):
  facts = find_facts(config)
  assert facts['config.learning_rate'] == '0.01'
  assert facts['--workdir'] == '/run'
  assert facts['checkpoints in --workdir'] == '[3, 6]'
  assert facts['images in train_split'] == '1442'
  assert facts['version of jax'] == jax.__version__
  sources_of_code = {name for name in facts if name.startswith('code of ')}
  assert 'code of convmixer_jax/distributed/agreement.py' in sources_of_code
  assert any(name.endswith('.cc') for name in sources_of_code)
  assert 'code of convmixer_jax/models/convmixer/module.py' in sources_of_code
  assert not any('.convmixer.' in name for name in sources_of_code)
  config.input.num_threads += 1
  config.dataset.data_dir = '/local'
  assert agreement.compare([facts, find_facts(config)]) == ''
  config.dataset.mean = (0.5, 0.5, 0.4)
  assert agreement.compare([facts, find_facts(config)]) == (
    'process 1 has config.dataset.mean = (0.5, 0.5, 0.4), process 0 has '
    '(0.5, 0.5, 0.5)'
  )


def test_changed_pixels_change_the_content_hash(config):
  facts = find_facts(config)
  source = sources.create_source(config.dataset, 'train')
  changed = [dict(source[i]) for i in range(len(source))]
  changed[-1]['image'] = changed[-1]['image'] ^ 1
  other = examples.InMemorySource(changed, source.class_names)
  now = agreement.collect_fingerprint(
    config, epath.Path('/run'), [], {'train_split': other}
  )
  assert now['images in train_split'] == len(source)
  assert now['classes of train_split'] == facts['classes of train_split']
  assert now['content of train_split'] != facts['content of train_split']


def test_process_that_differs_is_named():
  usual = {'a': '1', 'b': '2'}
  assert agreement.compare([usual] * 4) == ''
  found = agreement.compare([{'a': '3', 'b': '2'}, usual, usual, {'a': '1'}])
  assert found == (
    'process 0 has a = 3, process 1 has 1; '
    'process 3 has b = none, process 0 has 2'
  )
  many = [{str(i): str(n) for i in range(9)} for n in range(2)]
  assert agreement.compare(many).endswith('; and 4 more differences')


def test_processes_that_cannot_compare_are_refused(monkeypatch):
  device = collections.namedtuple('Device', 'process_index')
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with (
    pytest.raises(UserError, match='give --distributed'),
    agreement.require_same_on_all_processes(),
  ):
    pass
  monkeypatch.setattr(jax.distributed, 'is_initialized', lambda: True)
  monkeypatch.setattr(jax, 'devices', lambda: [device(i) for i in (0, 1, 1)])
  found = 'process 0 has 1, process 1 has 2'
  with (
    pytest.raises(UserError, match=found),
    agreement.require_same_on_all_processes(),
  ):
    pass


FLAGS = [
  *small_run.FLAGS,
  '--config.log_every_steps=1',
  '--config.num_steps=1000000',
  '--config.eval_every_epochs=1000000',
  '--config.checkpoint_every_steps=1000000',
]


def error_lines(outputs):
  """Returns the one of each process."""
  found = []
  for output in outputs:
    lines = [line for line in output.splitlines() if 'error:' in line]
    assert len(lines) == 1, output
    found += lines
  return found


@pytest.mark.slow
def test_different_config_is_refused_by_all_processes(tmp_path):
  job = jobs.Job(
    tmp_path / 'run',
    FLAGS,
    num_processes=2,
    flags_of_last=['--config.learning_rate=0.02', '--config.input.prefetch=3'],
    versions_of_last={'optax': '9'},
  )
  assert job.wait() == [1, 1], job.outputs()
  for number, line in enumerate(error_lines(job.outputs())):
    assert line.startswith(
      f'[{number}/2] error: process 1 has config.learning_rate = 0.02, '
      'process 0 has 0.01; process 1 has version of optax = 9, process 0 has '
    )
    assert 'prefetch' not in line
  assert not job.workdir.exists()


@pytest.mark.slow
def test_error_in_one_process_stops_all(tmp_path):
  job = jobs.Job(
    tmp_path / 'run',
    FLAGS,
    num_processes=2,
    flags_of_last=['--config.dataset.train_split=no'],
  )
  assert job.wait() == [1, 1], job.outputs()
  first, second = error_lines(job.outputs())
  assert "[0/2] error: process 1 stopped: 'digits' has no split" in first
  assert "[1/2] error: 'digits' has no split" in second
  assert not job.workdir.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
  ('number', 'hang_timeout', 'message'),
  [
    # More than a step takes on a busy machine.
    (signal.SIGSTOP, 30, 'waited 30 s for step '),
    (signal.SIGKILL, 900, 'another process seems to have died ('),
  ],
)
def test_process_that_hangs_or_dies_ends_the_others(
  tmp_path, number, hang_timeout, message
):
  flags = [*FLAGS, f'--config.hang_timeout={hang_timeout}']
  job = jobs.Job(tmp_path / 'run', flags, num_processes=2)
  first, second = job.processes
  while len(job.rows()) < 4:
    assert first.is_alive(), job.outputs()
    time.sleep(0.1)
  os.kill(second.pid, number)
  first.join(jobs.STUCK_AFTER)
  second.kill()
  assert job.wait() == [EXIT_STATUS, -signal.SIGKILL], job.outputs()
  (line,) = error_lines(job.outputs()[:1])
  assert line.startswith(f'[0/2] error: {message}')
  assert line.endswith('the same command resumes from the last checkpoint')
