"""Stages of the device benchmark: results, and handling of failures."""

import dataclasses
import json
import os

import device_session
import pytest

from convmixer_jax.benchmarks.benchmark_process import BenchmarkProcess
from convmixer_jax.benchmarks.device import (
  cifar10_stage,
  device_stages,
  model_stage,
  model_timing,
  report,
  run,
)
from convmixer_jax.benchmarks.device.budget import Budget
from convmixer_jax.benchmarks.device.model_groups import Measurement
from convmixer_jax.benchmarks.device.session import Output
from convmixer_jax.benchmarks.worker_process import WorkerProcess

WORKER = """
import json, sys
json.loads(sys.stdin.readline())
print(json.dumps({'about': {}}), flush=True)
for line in sys.stdin:
  kind, count = line.split()
  values = {'wall': 0.01, 'cpu': 0.01, 'loss': LOSS, 'device_peak': 7.0}
  if kind == 'first':
    values |= {'compile': 1.0, 'step': 0.01, 'peak': 100.0}
  print(json.dumps(values), flush=True)
"""


@pytest.fixture
def session(tmp_path):
  with device_session.create_session(tmp_path) as session:
    yield session


def test_hanging_process_is_killed_with_its_descendants():
  with WorkerProcess(device_session.python(device_session.HANGS)) as process:
    pids = process.ask(b'{}\n')['ids']
    assert all(map(device_session.is_alive, pids))
    with pytest.raises(TimeoutError):
      process.ask(b'train 1\n', 0.1)
    process.kill()
    device_session.wait_until_dead(pids)


def test_processes_that_hang_or_fail_are_reported(session, monkeypatch):
  scripts = {
    'hangs': device_session.HANGS,
    'fails': 'import json; print(json.dumps({"error": "no such GPU"}))',
    'dies': 'raise SystemExit(3)',
    'diverges': WORKER.replace('LOSS', 'float("nan")'),
    'works': WORKER.replace('LOSS', '0.5'),
  }
  monkeypatch.setattr(
    model_stage,
    'list_groups',
    lambda _: [
      [
        Measurement(
          name, 'tiny', device_session.TINY, device_session.python(script)
        )
      ]
      for name, script in scripts.items()
    ],
  )
  limits = dict.fromkeys(scripts, 6000.0) | {'hangs': 2.0}
  session.settings = dataclasses.replace(session.settings, limits=limits)
  model_stage.measure_models(session)
  rows = {}
  for row in session.rows.all:
    rows.setdefault(row['framework'], []).append(row)
  assert rows['hangs'][0]['missing'].startswith('killed after 2 s')
  assert 'no such GPU' in rows['fails'][0]['failed']
  assert 'ended without an answer' in rows['dies'][0]['failed']
  assert rows['diverges'][0]['finite'] is False
  train, forward, _ = rows['works']
  assert train['images_per_sec'] == pytest.approx(400)
  assert train['steps'] == forward['steps'] == '3 x 2'
  assert train['device_peak_mib'] == 7.0
  written = (session.directory / 'rows.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in written] == session.rows.all
  printed = report.format_results(session.rows.all)
  assert '| tiny | diverges | 400.0 |' in printed
  assert '| killed after 2 s' in printed


def test_starting_process_is_killed_on_an_interruption(monkeypatch):
  pids = []

  def interrupt(self, request, seconds):
    pids.append(self._process.pid)
    raise KeyboardInterrupt

  monkeypatch.setattr(WorkerProcess, 'ask', interrupt)
  with pytest.raises(KeyboardInterrupt):
    BenchmarkProcess(
      device_session.python(device_session.HANGS), device_session.TINY
    )
  device_session.wait_until_dead(pids)


@pytest.mark.parametrize(
  ('step', 'seconds', 'plan'),
  [
    (0.01, 10.0, (3, 3, 10)),
    (1.0, 33.0, (3, 3, 10)),
    (1.0, 13.0, (1, 3, 4)),
    (1.0, 2.5, (0, 2, 1)),
    (20.0, 10.0, (0, 0, 1)),
  ],
)
def test_planned_steps_fit_the_remaining_time(step, seconds, plan):
  assert model_timing.plan_steps(step, seconds, 10) == plan
  warm_up, timings, count = plan
  assert (warm_up + timings * count) * step <= seconds


def test_epochs_are_reduced_to_the_remaining_time():
  # A tenth is kept in reserve, and 35 s are needed besides the steps.
  assert cifar10_stage.fitting_epochs(25, 50_000, 50_000.0, 80.0) == 25
  assert cifar10_stage.fitting_epochs(25, 50_000, 10_000.0, 80.0) == 7
  assert cifar10_stage.fitting_epochs(25, 50_000, 10.0, 1.0) == 1


@pytest.mark.slow
def test_programs_do_not_use_the_compilation_cache(session, tmp_path):
  cache = tmp_path / 'cache'
  script = 'import jax; print(jax.jit(lambda x: 2 * x)(1.0))'
  user = {
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }
  command = device_session.python(script)
  output = session.run(command, 600.0, session.environment(**user))
  assert output.last_line == '2.0'
  assert not cache.exists() or not list(cache.iterdir())
  enabled = {'JAX_ENABLE_COMPILATION_CACHE': 'true'}
  session.run(command, 600.0, session.environment(**user, **enabled))
  assert list(cache.iterdir())  # without the switch the cache is used


@pytest.mark.parametrize(
  ('status', 'key'), [(0, 'epochs'), (1, 'failed'), (None, 'missing')]
)
def test_training_has_an_evaluation_at_half_and_its_failure_is_reported(
  session, monkeypatch, status, key
):
  session.platform = 'gpu'
  rows = session.rows
  session.budget = Budget(600.0, {'cifar10': 1})  # for some of the epochs
  rows.add('cifar10', images=8000, images_per_sec=20_000.0)
  session.settings = dataclasses.replace(session.settings, cifar10_epochs=2000)
  commands = []

  def train(command, seconds, environment):
    commands.append(command)
    return Output(status, 80.0, [(5.0, 'Traceback'), (6.0, 'out of memory')])

  monkeypatch.setattr(session, 'run', train)
  cifar10_stage._train(session, {'seed': 1}, 'CIFAR-10')
  row = rows.all[-1]
  epochs, half = row['epochs'], row['changes']['eval_every_epochs']
  assert 1 < epochs < 2000
  assert epochs <= 2 * half <= epochs + 1
  assert f'--config.eval_every_epochs={half}' in commands[0]
  assert row['ended'] is (status == 0)
  assert key in row
  if status != 0:
    assert 'out of memory' in row[key]
  assert bool(run.find_faults(rows)) is (status == 1)


def test_output_of_nvidia_smi_is_read(session, tmp_path, monkeypatch):
  program = tmp_path / 'bin' / 'nvidia-smi'
  program.parent.mkdir()
  line = 'NVIDIA H100 80GB HBM3, 580.1, 81559, 345, 2619, 700.00, 31'
  program.write_text(f'#!/bin/sh\necho "{line}"\n')
  program.chmod(0o755)
  monkeypatch.setenv('PATH', str(program.parent), prepend=os.pathsep)
  (row,) = device_stages.read_nvidia_smi(session)
  assert row['gpu_name'] == 'NVIDIA H100 80GB HBM3'
  assert row['gpu_memory_mib'] == '81559'
  assert row['gpu_celsius'] == '31'
  program.write_text('#!/bin/sh\necho "no devices were found"\nexit 6\n')
  (row,) = device_stages.read_nvidia_smi(session)
  assert 'status 6: no devices were found' in row['missing']


@pytest.mark.parametrize(
  ('status', 'lines', 'passed'),
  [
    (0, ['== 9 passed in 3.00s =='], True),
    (1, ['== 1 failed, 8 passed in 3.00s =='], False),
    (2, ['!! Interrupted: 1 error during collection !!'], False),
    (0, ['== 9 skipped in 3.00s =='], None),
    (-11, ['Fatal Python error: Segmentation fault'], False),
    (4, ['ERROR: usage'], None),
    (None, ['test_gpu.py::test_a PASSED', 'test_gpu.py::test_b '], None),
    (None, ['test_gpu.py::test_a FAILED', 'test_gpu.py::test_b '], False),
    # Of several processes.
    (None, ['[gw0] [ 2%] FAILED test_gpu.py::test_a '], False),
    (None, ['[gw1] [ 2%] PASSED test_gpu.py::test_PASSED'], None),
  ],
)
def test_unfinished_tests_are_missing_not_wrong(status, lines, passed):
  output = Output(status, 60.0, [(1.0, line) for line in lines])
  row = device_stages.judge_tests(output)
  assert row.get('passed') is passed
  text = row['missing' if passed is None else 'note']
  assert lines[-1].strip() in text
  if ' PASSED' in lines[0]:
    assert text.endswith('; 1 passed')


def test_tests_without_pytest_are_missing(session, monkeypatch):
  session.platform = 'gpu'
  monkeypatch.setattr(
    device_stages.importlib.util, 'find_spec', lambda name: None
  )
  device_stages.run_tests(session)
  assert session.rows.all[0]['missing'] == 'pytest is not installed'


@pytest.mark.parametrize(('on_device', 'of_host'), [(90.0, 50.0), (5.0, 50.0)])
def test_training_has_the_faster_input(
  session, monkeypatch, on_device, of_host
):
  changes = []

  def stream(command, request, seconds, receive, environment):
    is_on_device = request['config'].get('input.on_device', False)
    # The devices must not make batches in the place of the host.
    assert is_on_device or environment['JAX_PLATFORMS'] == 'cpu'
    rate = on_device if is_on_device else of_host
    made_by = 'devices' if is_on_device else 'host'
    receive({'made_by': made_by, 'images': 8, 'images_per_sec': rate})

  monkeypatch.setattr(session, 'stream', stream)
  monkeypatch.setattr(
    cifar10_stage, '_prepare', lambda session: {'config': {}, 'about': 'few'}
  )
  monkeypatch.setattr(
    cifar10_stage,
    '_train',
    lambda session, changed, about: changes.append(changed),
  )
  cifar10_stage.train_cifar10(session)
  assert changes[0].get('input.on_device', False) is (on_device > of_host)
