"""Runs of the device benchmark: arguments, stages, results and faults."""

import json
import os
import pathlib
import signal
import threading
import time
from types import SimpleNamespace

import commands
import device_session
import pytest

from convmixer_jax.benchmarks.device import budget as budget_lib
from convmixer_jax.benchmarks.device import inputs, model_stage, report, run
from convmixer_jax.benchmarks.device.budget import Budget
from convmixer_jax.benchmarks.device.model_groups import Measurement
from convmixer_jax.benchmarks.device.settings import FULL, QUICK
from convmixer_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


def find_cpu(session):
  session.platform = 'cpu'


@pytest.fixture(autouse=True)
def torch(monkeypatch):
  monkeypatch.setattr(run.inputs, 'find_torch', lambda session: None)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_results_are_written_and_processes_killed_on_signals(
  tmp_path, monkeypatch, number
):
  pids = []

  def terminate_self(session):
    session.rows.add('machine', device='some device', gb_per_sec=1.0)

    def receive(row):
      pids.extend(row['ids'])
      os.kill(os.getpid(), number)
      time.sleep(60)

    session.stream(
      device_session.python(device_session.HANGS), {}, 60.0, receive
    )

  monkeypatch.setitem(run._FUNCTIONS, 'machine', terminate_self)
  # Under nohup, SIGHUP is ignored, and stays so.
  inherited = signal.signal(number, signal.SIG_DFL)
  try:
    with pytest.raises(run.Terminated) as caught:
      run.run(QUICK, tmp_path, stages=['machine', 'models'])
    assert signal.getsignal(number) is signal.SIG_DFL
  finally:
    signal.signal(number, inherited)
  assert caught.value.status == 128 + number
  assert 'some device' in (tmp_path / 'results.md').read_text()
  rows = (tmp_path / 'rows.jsonl').read_text().splitlines()
  assert number.name in json.loads(rows[-1])['missing']
  device_session.wait_until_dead(pids)


def test_error_in_a_stage_does_not_stop_the_others(tmp_path, monkeypatch):
  def fail(session):
    session.platform = 'cpu'
    raise RuntimeError('out of luck')

  monkeypatch.setitem(run._FUNCTIONS, 'machine', fail)
  wrong = run.run(QUICK, tmp_path, stages=['machine', 'tests'])
  printed = (tmp_path / 'results.md').read_text()
  assert 'RuntimeError: out of luck' in printed
  assert 'the tests marked gpu need one' in printed
  assert wrong == ['machine: this project failed: RuntimeError: out of luck']


def test_tests_run_beside_the_checks_of_operations(tmp_path, monkeypatch):
  both = threading.Barrier(2, timeout=600)

  def meet(session):
    both.wait()
    session.rows.add('tests', passed=True)

  monkeypatch.setitem(run._FUNCTIONS, 'machine', find_cpu)
  for stage in ('correctness', 'tests'):
    monkeypatch.setitem(run._FUNCTIONS, stage, meet)
  stages = ['machine', 'correctness', 'tests']
  assert not run.run(QUICK, tmp_path, stages=stages, budget_seconds=6000.0)
  rows = (tmp_path / 'rows.jsonl').read_text().splitlines()
  assert len([row for row in rows if 'passed' in row]) == 2


def test_stages_without_time_are_reported_as_missing(tmp_path, monkeypatch):
  monkeypatch.setitem(run._FUNCTIONS, 'machine', find_cpu)
  run.run(QUICK, tmp_path, stages=['machine', 'models'], budget_seconds=1.0)
  assert 'no time was left' in (tmp_path / 'results.md').read_text()


def test_full_benchmark_stops_without_an_accelerator(tmp_path, monkeypatch):
  monkeypatch.setitem(run._FUNCTIONS, 'machine', find_cpu)
  (wrong,) = run.run(FULL, tmp_path, stages=['machine', 'models'])
  assert 'JAX sees no accelerator' in wrong
  assert len((tmp_path / 'rows.jsonl').read_text().splitlines()) == 2


def test_run_stops_if_jax_does_not_start(tmp_path, monkeypatch):
  tries = []

  def fail(session):
    tries.append(session)
    raise OSError('killed after 60 s')

  monkeypatch.setattr(run.device_stages, 'find_platform', fail)
  faults = run.run(QUICK, tmp_path, stages=['correctness', 'models', 'tests'])
  assert len(tries) == 1
  assert 'JAX found no device' in faults[-1]
  assert 'JAX found no device' in (tmp_path / 'results.md').read_text()


def test_results_of_another_run_are_not_overwritten(tmp_path):
  rows = tmp_path / 'rows.jsonl'
  rows.write_text('{}\n')
  with pytest.raises(UserError, match='of another run'):
    run.run(QUICK, tmp_path)
  assert rows.read_text() == '{}\n'


@pytest.mark.parametrize('name', ['cifar10', 'data_dir'])
def test_missing_data_are_refused_before_anything_is_written(tmp_path, name):
  directory = tmp_path / 'results'
  with pytest.raises(UserError, match='none'):
    run.run(QUICK, directory, **{name: str(tmp_path / 'none')})
  assert not directory.exists()


def test_directory_that_cannot_be_created_is_refused(tmp_path):
  file = tmp_path / 'file'
  file.touch()
  for directory in (file, file / 'results'):
    with pytest.raises(UserError, match='is not a directory'):
      run.run(QUICK, directory)


@pytest.mark.parametrize('python', ['/none/python', 'false'])
def test_python_without_pytorch_is_reported(tmp_path, python, monkeypatch):
  monkeypatch.undo()
  with device_session.create_session(tmp_path) as session:
    session.torch_python = python
    inputs.find_torch(session)
    assert python in session.torch_missing
    networks = {'tiny': device_session.TINY}
    monkeypatch.setattr(
      model_stage,
      'list_groups',
      lambda _: [
        [
          Measurement('PyTorch, eager', name, case, [])
          for name, case in networks.items()
        ]
      ],
    )
    model_stage.measure_models(session)
    assert session.rows.all[0]['missing'] == session.torch_missing


def test_versions_of_pytorch_are_in_the_results(tmp_path, monkeypatch):
  monkeypatch.undo()
  for name, version in (('torch', '2.9+cu130'), ('timm', '1.0.31')):
    (tmp_path / f'{name}.py').write_text(f'__version__ = {version!r}\n')
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  with device_session.create_session(tmp_path) as session:
    session.search_torch(inputs.find_torch)
    assert session.why_no_torch() is None
    (row,) = session.rows.all
    assert row['torch'] == {'torch': '2.9+cu130', 'timm': '1.0.31'}
    assert '| timm | 1.0.31 |' in report.format_results(session.rows.all)


def test_relative_paths_become_absolute(tmp_path, monkeypatch):
  sessions = []

  def find_cpu_and_keep(session):
    find_cpu(session)
    sessions.append(session)

  monkeypatch.chdir(tmp_path)
  monkeypatch.setitem(run._FUNCTIONS, 'machine', find_cpu_and_keep)
  run.run(QUICK, tmp_path, stages=['machine'], torch_python='env/bin/python')
  assert sessions[0].torch_python == str(tmp_path / 'env' / 'bin' / 'python')


def test_numbers_that_are_not_finite_become_null(tmp_path):
  with device_session.create_session(tmp_path) as session:
    session.rows.add('cifar10', eval_loss=float('nan'), seconds={'a': 1.0})
    assert session.rows.all[0]['eval_loss'] is None
  (line,) = (tmp_path / 'rows.jsonl').read_text().splitlines()
  row = json.loads(line, parse_constant=pytest.fail)
  assert row['seconds'] == {'a': 1.0}


def test_error_in_a_table_does_not_stop_the_stages(tmp_path, monkeypatch):
  monkeypatch.setattr(
    run.report, 'format_results', lambda rows: rows['no such']
  )
  monkeypatch.setitem(run._FUNCTIONS, 'machine', find_cpu)
  run.run(QUICK, tmp_path, stages=['machine'])
  rows = (tmp_path / 'rows.jsonl').read_text()
  assert 'results: TypeError' in rows


def test_unused_time_of_a_stage_goes_to_the_next(monkeypatch):
  seconds = iter([5.0, 15.0, 15.0, 505.0])  # at the start, and when asked
  clock = SimpleNamespace(monotonic=lambda: next(seconds))
  monkeypatch.setattr(budget_lib, 'time', clock)
  budget = Budget(1000.0, {'first': 1, 'second': 3})
  assert budget.left('first') == 240
  assert budget.left('second') == 990
  assert budget.left('first') == 0


def test_starting_a_run_does_not_initialize_the_device():
  script = (
    'from convmixer_jax.benchmarks.device import run, wheels, operations; '
    'from convmixer_jax.benchmarks.device.settings import FULL; '
    'from jax._src import xla_bridge; '
    '[operations.implementations(p) for p in ("gpu", "tpu")]; '
    'operations.create_checks("gpu", FULL.checks, FULL.depthwise); '
    'assert not xla_bridge.backends_are_initialized()'
  )
  done = commands.run(['-c', script])
  assert done.returncode == 0, done.stderr


def test_collecting_the_gpu_tests_does_not_initialize_the_device():
  script = (
    'import test_gpu; from jax._src import xla_bridge; '
    'assert not xla_bridge.backends_are_initialized()'
  )
  done = commands.run(['-c', script], directory=ROOT / 'tests' / 'kernels')
  assert done.returncode == 0, done.stderr


def test_chosen_stages_are_in_order_and_known():
  chosen = run.choose_stages(['tests', 'models', 'machine'], ['machine'])
  assert chosen == ['tests', 'models']
  skipped = ['networks', 'comparison']
  assert run.choose_stages([], skipped)[-1] == 'alternatives'
  with pytest.raises(UserError, match="no stage 'model'; the stages are m"):
    run.choose_stages(['model'], [])
  with pytest.raises(UserError, match='no stage remains'):
    run.choose_stages(['tests'], ['tests'])


def test_only_faults_of_this_project_are_found():
  class Fake:
    all = [  # noqa: RUF012
      {'stage': 'correctness', 'check': 'linear', 'passed': False},
      {'stage': 'models', 'framework': 'PyTorch, eager', 'finite': False},
      {'stage': 'models', 'framework': 'this project', 'finite': False},
      {'stage': 'depthwise', 'variant': 'lax, NCHW forced', 'finite': False},
      {'stage': 'tests', 'passed': False, 'note': 'ended with status 1'},
      {'stage': 'models', 'framework': 'plain Flax', 'failed': 'no memory'},
      {'stage': 'models', 'framework': 'this project', 'missing': 'no time'},
      {'stage': 'models', 'framework': 'this project', 'failed': 'no memory'},
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
  printed = report.format_results(Fake.all)
  assert '0 correct, 1 wrong, 1 failed.' in printed
  assert '| cifar10 | training | status 1 |' in printed


def test_other_networks_are_those_of_the_paper():
  others = FULL.others()
  assert set(others) == {'resnet152', 'deit_b', 'resmlp_b24_8'}
  assert {case.network for case in others.values()} == {
    'resnet',
    'vit',
    'resmlp',
  }
  assert {case.batch_size for case in others.values()} == {64}
  assert {case.dtype for case in others.values()} == {'bfloat16'}
