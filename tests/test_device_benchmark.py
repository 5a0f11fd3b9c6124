"""The benchmark of a device: its stages, what it survives, what it reports."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from convmixer_jax.benchmarks.contender import Contender
from convmixer_jax.benchmarks.device import (
  cifar10_stage,
  device_stages,
  model_stage,
  report,
  run,
)
from convmixer_jax.benchmarks.device.budget import Budget
from convmixer_jax.benchmarks.device.rows import Rows
from convmixer_jax.benchmarks.device.session import Output, Session
from convmixer_jax.benchmarks.device.settings import (
  FULL,
  QUICK,
)
from convmixer_jax.benchmarks.model_shapes import Shape
from convmixer_jax.benchmarks.worker_process import WorkerProcess
from convmixer_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
TINY = Shape(8, 2, 3, 3, num_classes=5, image_size=12, batch_size=2)

CONTENDER = """
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
# It starts a process in a session of its own, tells both ids, and hangs.
HANGS = """
import json, os, subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, '-c', 'import time; time.sleep(600)'],
    start_new_session=True)
print(json.dumps({'about': {}, 'ids': [os.getpid(), child.pid]}), flush=True)
time.sleep(600)
"""


@pytest.fixture
def session(tmp_path):
  budget = Budget(600.0, {'models': 0.5, 'cifar10': 0.5})
  session = Session(
    settings=dataclasses.replace(
      QUICK, networks={'tiny': TINY}, least_contender_seconds=0.0
    ),
    rows=Rows(tmp_path / 'rows.jsonl', budget.used),
    budget=budget,
    directory=tmp_path,
    scratch=tmp_path,
    log=(tmp_path / 'log.txt').open('wb'),
    torch_python=sys.executable,
    cifar10=None,
    data_dir=None,
    platform='cpu',
  )
  yield session
  session.rows.close()
  session.log.close()


def python(script):
  return [sys.executable, '-c', script]


def is_alive(pid):
  try:
    state = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2]
  except FileNotFoundError:
    return False
  return state.split()[0] != 'Z'


def wait_until_dead(pids):
  deadline = time.monotonic() + 60
  while any(map(is_alive, pids)):
    assert time.monotonic() < deadline
    time.sleep(0.05)


def test_a_process_that_hangs_is_killed_with_all_it_started():
  with WorkerProcess(python(HANGS)) as process:
    pids = process.ask(b'{}\n')['ids']
    assert all(map(is_alive, pids))
    with pytest.raises(TimeoutError):
      process.ask(b'train 1\n', 0.1)
    process.kill()
    wait_until_dead(pids)


def test_contenders_that_hang_or_fail_are_named_and_left(session, monkeypatch):
  scripts = {
    'hangs': HANGS,
    'fails': 'import json; print(json.dumps({"error": "no such GPU"}))',
    'dies': 'raise SystemExit(3)',
    'diverges': CONTENDER.replace('LOSS', 'float("nan")'),
    'works': CONTENDER.replace('LOSS', '0.5'),
  }
  monkeypatch.setattr(
    model_stage,
    'entries',
    lambda _: [
      model_stage.Entry(name, 'tiny', TINY, python(script))
      for name, script in scripts.items()
    ],
  )
  limits = dict.fromkeys(scripts, 60.0) | {'hangs': 2.0}
  session.settings = dataclasses.replace(session.settings, limits=limits)
  model_stage.measure_models(session)
  rows = {}
  for row in session.rows.all:
    rows.setdefault(row['contender'], []).append(row)
  assert rows['hangs'][0]['missing'].startswith('killed after 2 s')
  assert 'no such GPU' in rows['fails'][0]['missing']
  assert 'ended without an answer' in rows['dies'][0]['missing']
  assert rows['diverges'][0]['finite'] is False
  train, forward, _ = rows['works']
  assert train['images_per_sec'] == pytest.approx(400)
  assert train['steps'] == forward['steps'] == '3 x 2'
  assert train['device_peak_mib'] == 7.0
  written = (session.directory / 'rows.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in written] == session.rows.all
  printed = report.results(session.rows.all)
  assert '| tiny | diverges | 400.0 |' in printed
  assert '| killed after 2 s' in printed


def test_sigterm_leaves_rows_and_tables_and_no_process(tmp_path, monkeypatch):
  pids = []

  def terminate_self(session):
    session.rows.add('machine', device='some device', gb_per_sec=1.0)

    def receive(row):
      pids.extend(row['ids'])
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(60)

    session.stream(python(HANGS), {}, 60.0, receive)

  monkeypatch.setitem(run._FUNCTIONS, 'machine', terminate_self)
  with pytest.raises(run.Terminated):
    run.run(QUICK, tmp_path, stages=['machine', 'models'])
  assert 'some device' in (tmp_path / 'results.md').read_text()
  rows = (tmp_path / 'rows.jsonl').read_text().splitlines()
  assert 'Terminated' in json.loads(rows[-1])['missing']
  wait_until_dead(pids)


def test_contender_that_starts_is_killed_on_an_interruption(monkeypatch):
  pids = []

  def interrupt(self, request, seconds):
    pids.append(self._process.pid)
    raise KeyboardInterrupt

  monkeypatch.setattr(WorkerProcess, 'ask', interrupt)
  with pytest.raises(KeyboardInterrupt):
    Contender(python(HANGS), TINY)
  wait_until_dead(pids)


def test_what_goes_wrong_in_a_stage_does_not_cost_the_others(
  tmp_path, monkeypatch
):
  def fail(session):
    session.platform = 'cpu'
    raise RuntimeError('out of luck')

  monkeypatch.setitem(run._FUNCTIONS, 'machine', fail)
  wrong = run.run(QUICK, tmp_path, stages=['machine', 'tests'])
  printed = (tmp_path / 'results.md').read_text()
  assert 'RuntimeError: out of luck' in printed
  assert 'the tests marked gpu need one' in printed
  assert wrong == []


def test_stages_without_time_are_skipped_and_say_so(tmp_path, monkeypatch):
  monkeypatch.setitem(run._FUNCTIONS, 'machine', lambda session: None)
  monkeypatch.setattr(run.device_stages, 'find_platform', lambda session: None)
  run.run(QUICK, tmp_path, stages=['machine', 'models'], budget_seconds=1.0)
  assert 'no time was left' in (tmp_path / 'results.md').read_text()


def test_full_benchmark_ends_where_there_is_only_a_cpu(tmp_path, monkeypatch):
  def find_cpu(session):
    session.platform = 'cpu'

  monkeypatch.setitem(run._FUNCTIONS, 'machine', find_cpu)
  (wrong,) = run.run(FULL, tmp_path, stages=['machine', 'models'])
  assert 'JAX sees no accelerator' in wrong
  assert len((tmp_path / 'rows.jsonl').read_text().splitlines()) == 2


def test_a_table_that_fails_does_not_cost_the_stages(tmp_path, monkeypatch):
  monkeypatch.setattr(run.report, 'results', lambda rows: rows['no such'])
  monkeypatch.setitem(run._FUNCTIONS, 'machine', lambda session: None)
  run.run(QUICK, tmp_path, stages=['machine'])
  rows = (tmp_path / 'rows.jsonl').read_text()
  assert 'results: TypeError' in rows


def test_budget_passes_on_what_a_stage_leaves():
  budget = Budget(1000.0, {'first': 1, 'second': 3})
  assert budget.left('first') == pytest.approx(250, abs=50)
  assert budget.left('second') == pytest.approx(1000, abs=50)


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
def test_steps_are_cut_down_to_the_time_there_is(step, seconds, plan):
  assert model_stage.plan_steps(step, seconds, 10) == plan
  warm_up, timings, count = plan
  assert (warm_up + timings * count) * step <= seconds


def test_epochs_are_cut_down_to_the_time_there_is():
  assert cifar10_stage.fitting_epochs(25, 50_000, 50_000.0, 75.0) == 25
  assert cifar10_stage.fitting_epochs(25, 50_000, 10_000.0, 75.0) == 6
  assert cifar10_stage.fitting_epochs(25, 50_000, 10.0, 1.0) == 1


def test_nvidia_smi_is_read(session, tmp_path, monkeypatch):
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


def test_starting_a_run_does_not_take_the_device():
  script = (
    'from convmixer_jax.benchmarks.device import run, wheels, operations; '
    'from convmixer_jax.benchmarks.device.settings import FULL; '
    'from jax._src import xla_bridge; '
    '[operations.implementations(p, k) for p in ("gpu", "tpu") '
    'for k in (7, 9)]; '
    'operations.create_checks("gpu", FULL.checks, FULL.depthwise); '
    'assert not xla_bridge.backends_are_initialized()'
  )
  subprocess.run(python(script), cwd=ROOT, check=True)


def test_collecting_the_tests_for_gpus_does_not_take_the_device():
  script = (
    'import test_gpu; from jax._src import xla_bridge; '
    'assert not xla_bridge.backends_are_initialized()'
  )
  path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
  environment = os.environ | {'PYTHONPATH': path}
  subprocess.run(
    python(script), cwd=ROOT / 'tests', env=environment, check=True
  )


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
  ],
)
def test_tests_that_did_not_end_are_missing_not_wrong(status, lines, passed):
  output = Output(status, 60.0, [(1.0, line) for line in lines])
  row = device_stages.judge_tests(output)
  assert row.get('passed') is passed
  assert lines[-1].strip() in row['missing' if passed is None else 'note']


def test_tests_without_pytest_are_missing(session, monkeypatch):
  session.platform = 'gpu'
  monkeypatch.setattr(
    device_stages.importlib.util, 'find_spec', lambda name: None
  )
  device_stages.run_tests(session)
  assert session.rows.all[0]['missing'] == 'pytest is not installed'


def test_stages_are_chosen_in_their_order():
  chosen = run.choose_stages(['tests', 'models', 'machine'], ['machine'])
  assert chosen == ['models', 'tests']
  assert run.choose_stages([], ['cifar10'])[-1] == 'tests'
  with pytest.raises(UserError, match="no stage 'model'; there are machine"):
    run.choose_stages(['model'], [])


def test_faults_are_those_of_this_project():
  class Fake:
    all = [  # noqa: RUF012
      {'stage': 'correctness', 'check': 'linear', 'passed': False},
      {'stage': 'models', 'contender': 'PyTorch, eager', 'finite': False},
      {'stage': 'models', 'contender': 'this project', 'finite': False},
      {'stage': 'depthwise', 'variant': 'lax, NCHW forced', 'finite': False},
      {'stage': 'tests', 'passed': False, 'note': 'ended with status 1'},
    ]

  assert run.find_faults(Fake) == [
    'linear ()',
    'models: this project is not finite',
    'tests marked gpu (ended with status 1)',
  ]
