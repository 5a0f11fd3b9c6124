"""The benchmark of a device as a whole: what it starts, reports and leaves."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import device_session
import pytest

from convmixer_jax.benchmarks.device import report, run
from convmixer_jax.benchmarks.device.budget import Budget
from convmixer_jax.benchmarks.device.settings import FULL, QUICK
from convmixer_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]


def test_sigterm_leaves_rows_and_tables_and_no_process(tmp_path, monkeypatch):
  pids = []

  def terminate_self(session):
    session.rows.add('machine', device='some device', gb_per_sec=1.0)

    def receive(row):
      pids.extend(row['ids'])
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(60)

    session.stream(
      device_session.python(device_session.HANGS), {}, 60.0, receive
    )

  monkeypatch.setitem(run._FUNCTIONS, 'machine', terminate_self)
  with pytest.raises(run.Terminated):
    run.run(QUICK, tmp_path, stages=['machine', 'models'])
  assert 'some device' in (tmp_path / 'results.md').read_text()
  rows = (tmp_path / 'rows.jsonl').read_text().splitlines()
  assert 'Terminated' in json.loads(rows[-1])['missing']
  device_session.wait_until_dead(pids)


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
  assert wrong == ['machine: this project failed: RuntimeError: out of luck']


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
  subprocess.run(device_session.python(script), cwd=ROOT, check=True)


def test_collecting_the_tests_for_gpus_does_not_take_the_device():
  script = (
    'import test_gpu; from jax._src import xla_bridge; '
    'assert not xla_bridge.backends_are_initialized()'
  )
  path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
  environment = os.environ | {'PYTHONPATH': path}
  subprocess.run(
    device_session.python(script),
    cwd=ROOT / 'tests',
    env=environment,
    check=True,
  )


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
      {'stage': 'models', 'contender': 'plain Flax', 'failed': 'no memory'},
      {'stage': 'models', 'contender': 'this project', 'missing': 'no time'},
      {'stage': 'models', 'contender': 'this project', 'failed': 'no memory'},
      {'stage': 'depthwise', 'variant': 'default', 'failed': 'it died'},
      {'stage': 'correctness', 'check': 'mixer', 'failed': 'it died'},
      {'stage': 'cifar10', 'part': 'training', 'failed': 'status 1'},
    ]

  assert run.find_faults(Fake) == [
    'linear is wrong',
    'models: this project is not finite',
    'tests: this project is wrong (ended with status 1)',
    'models: this project failed: no memory',
    'depthwise: default failed: it died',
    'mixer failed: it died',
    'cifar10: this project failed (training): status 1',
  ]
  printed = report.results(Fake.all)
  assert '0 right, 1 wrong, 1 failed.' in printed
  assert '| cifar10 | training | status 1 |' in printed
