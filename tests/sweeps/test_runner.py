"""Sweeps of processes that stand in for runs."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import fake_train
import pytest

from convmixer_jax.errors import Preempted
from convmixer_jax.sweeps import Choice, Grid, local, plan
from convmixer_jax.sweeps.choices import restore_choices
from convmixer_jax.sweeps.local import LocalExecutor
from convmixer_jax.sweeps.plan import write_config
from convmixer_jax.sweeps.runner import Runner
from convmixer_jax.sweeps.table import format_table, seconds_left, summary

WIDTHS = Grid('digits', {'model.width': [8, 16]}, seeds=(0, 1))
HELD_OUT = {
  'dataset.train_split': 'train[:90%]',
  'dataset.eval_split': 'train[90%:]',
}
RATES = Grid(
  'cifar10', choose=Choice('learning_rate', [0.2, 0.3, 0.1], HELD_OUT)
)


def command(behaviours=()):
  """Returns the command of a run, by what its name contains."""

  def of_run(run):
    found = [how for part, how in dict(behaviours).items() if part in run.name]
    return [
      *(sys.executable, '-S', fake_train.__file__, str(write_config(run))),
      *(str(run.directory), (found or ['learn'])[0]),
    ]

  return of_run


def start(tmp_path, grid, behaviours=(), jobs=2):
  """Returns the runner of a sweep, and the lines that it reports."""
  lines = []
  found = plan.make_plan([grid], str(tmp_path / 'sweep'))
  restore_choices(found)
  plan.check_unchanged(found)
  executor = LocalExecutor(jobs, command(behaviours))
  runner = Runner(
    found, executor, lambda _, line: lines.append(line) if line else None
  )
  return runner, lines


def states(runner):
  return {name: entry.state for name, entry in runner.entries.items()}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr('convmixer_jax.sweeps.runner._POLL', 0.02)


def test_all_runs_are_completed_and_not_started_again(tmp_path):
  runner, lines = start(tmp_path, WIDTHS)
  runner.run()
  assert set(states(runner).values()) == {'complete'}
  assert sum('is complete: eval_accuracy' in line for line in lines) == 4
  assert not runner.failed()
  again, lines = start(tmp_path, WIDTHS, {'': 'fail'})
  again.run()
  assert set(states(again).values()) == {'complete'} and not lines


def test_run_without_its_checkpoints_is_complete_if_it_reached_the_end(
  tmp_path,
):
  runner, _ = start(tmp_path, WIDTHS)
  runner.run()
  for directory in (tmp_path / 'sweep').glob('width*'):
    shutil.rmtree(directory / 'checkpoints')
  cut = tmp_path / 'sweep' / 'width16-seed1' / 'metrics.csv'
  head, *rows = cut.read_text().splitlines()
  cut.write_text('\n'.join([head, *rows[:-1], '']))
  again, _ = start(tmp_path, WIDTHS)
  assert [
    name
    for name, entry in again.entries.items()
    if not entry.progress.is_complete
  ] == ['width16-seed1']


def test_failed_run_is_reported_by_its_last_line_and_stops_no_other(tmp_path):
  runner, lines = start(tmp_path, WIDTHS, {'width8-seed1': 'fail'})
  runner.run()
  (failed,) = runner.failed()
  assert (failed.run.name, failed.error) == ('width8-seed1', 'the disk is full')
  assert 'width8-seed1 failed: the disk is full' in lines
  assert list(states(runner).values()).count('complete') == 3
  again, _ = start(tmp_path, WIDTHS)
  again.run()
  assert not again.failed()
  assert not failed.run.error.exists()


def test_killed_run_is_started_again(tmp_path):
  runner, lines = start(tmp_path, WIDTHS, {'width16-seed0': 'die'})
  runner.run()
  assert set(states(runner).values()) == {'complete'}
  assert 'width16-seed0 was ended by SIGKILL; it is started again' in lines


def test_run_that_never_gets_further_fails_in_the_end(tmp_path, monkeypatch):
  monkeypatch.setattr('convmixer_jax.sweeps.runner._TRIES', 2)
  kill = [sys.executable, '-S', '-c', 'import os; os.kill(os.getpid(), 9)']
  runner, _ = start(tmp_path, Grid('digits'))
  runner._executor = LocalExecutor(1, lambda run: write_config(run) and kill)
  runner.run()
  (failed,) = runner.failed()
  assert 'ended by SIGKILL 2 times without a new checkpoint' in failed.error


def test_interrupt_lets_all_runs_save(tmp_path):
  runner, _ = start(tmp_path, WIDTHS, {'': 'slow'})
  directory = runner.plan.workdir

  def interrupt():
    while len(list(pathlib.Path(directory).glob('*/started'))) < 2:
      time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)

  thread = threading.Thread(target=interrupt)
  thread.start()
  with pytest.raises(Preempted, match='stopped by SIGINT: 0 of 4 runs') as stop:
    runner.run()
  thread.join()
  assert '\n' not in str(stop.value)
  saved = list(pathlib.Path(directory).glob('*/checkpoints/2'))
  assert len(saved) == 2 and set(states(runner).values()) == {'waiting'}
  again, _ = start(tmp_path, WIDTHS)
  assert [e.progress.share for e in again.entries.values()][:2] == [0.5, 0.5]
  again.run()
  assert not again.failed()


def test_run_of_another_process_is_waited_for(tmp_path):
  runner, _ = start(tmp_path, Grid('digits'))
  (entry,) = runner.entries.values()
  runner._executor = LocalExecutor(
    1, lambda run: write_config(run) and [sys.executable, '-c', 'exit(75)']
  )
  entry.run.directory.mkdir(parents=True)
  lock = entry.run.directory / 'in_use.lock'
  lock.touch()
  text = json.dumps({'learning_rate': 0, 'seed': 0, 'num_epochs': 30})

  def complete_elsewhere():
    while entry.state != 'in use':
      time.sleep(0.02)
    fake_train.write(pathlib.Path(entry.run.directory), 4, json.loads(text))
    entry.not_before = 0

  thread = threading.Thread(target=complete_elsewhere)
  thread.start()
  runner.run()
  thread.join()
  assert entry.state == 'complete'


def test_value_is_chosen_by_the_trials_and_kept(tmp_path):
  runner, lines = start(tmp_path, RATES)
  runner.run()
  run = runner.plan.runs[-1]
  assert run.config.learning_rate == 0.3
  recorded = json.loads((run.directory / 'config.json').read_text())
  assert recorded['learning_rate'] == 0.3
  assert recorded['dataset']['eval_split'] == 'test'
  (line,) = [line for line in lines if 'is chosen' in line]
  assert line.startswith('cifar10: learning_rate = 0.3 is chosen by eval_acc')
  chosen = json.loads(
    (runner.plan.workdir / 'sweep' / 'chosen.json').read_text()
  )
  assert chosen['cifar10']['results'] == pytest.approx([0.7, 0.8, 0.6])
  again, lines = start(tmp_path, RATES)
  again.run()
  assert again.plan.runs[-1].config.learning_rate == 0.3 and not lines


def test_trial_that_diverges_is_worse_than_others(tmp_path):
  runner, lines = start(tmp_path, RATES, {'rate0.3': 'diverge'})
  runner.run()
  assert runner.plan.runs[-1].config.learning_rate == 0.2
  assert any('0.3: diverged' in line for line in lines)
  assert not runner.failed()
  again, lines = start(tmp_path, RATES)
  again.run()
  assert not lines  # it would diverge again


def test_row_waits_for_a_trial_that_failed(tmp_path):
  runner, _ = start(tmp_path, RATES, {'rate0.3': 'fail'})
  runner.run()
  failed = {entry.run.name: entry.error for entry in runner.failed()}
  assert failed == {
    'trials/cifar10-learning_rate0.3-seed0': 'the disk is full',
    'cifar10-seed0': 'a trial failed: trials/cifar10-learning_rate0.3-seed0',
  }
  again, _ = start(tmp_path, RATES)
  again.run()
  assert not again.failed()
  assert again.plan.runs[-1].config.learning_rate == 0.3


def test_row_whose_trials_all_diverge_gets_no_runs(tmp_path):
  runner, _ = start(tmp_path, RATES, {'': 'diverge'})
  runner.run()
  assert 'all trials of cifar10 diverged' in runner.failed()[-1].error


def test_runs_end_when_the_sweep_is_killed(tmp_path):
  program = (
    'import sys, time; from test_runner import start, WIDTHS; '
    'import pathlib; r, _ = start(pathlib.Path(sys.argv[1]), WIDTHS, '
    "{'': 'slow'}); r._start(); print('started', flush=True); time.sleep(60)"
  )
  here = pathlib.Path(__file__)
  places = here.parent, here.parents[1] / 'support', here.parents[2]
  process = subprocess.Popen(
    [sys.executable, '-c', program, str(tmp_path)],
    env=os.environ | {'PYTHONPATH': os.pathsep.join(map(str, places))},
    stdout=subprocess.PIPE,
  )
  assert process.stdout.readline() == b'started\n'
  directory = tmp_path / 'sweep'
  while len(list(directory.glob('*/started'))) < 2:
    time.sleep(0.02)
  process.kill()
  process.wait()
  while len(list(directory.glob('*/checkpoints/2'))) < 2:
    time.sleep(0.02)
  process.stdout.close()


def test_cores_are_divided_equally(monkeypatch):
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {*range(7)})
  monkeypatch.setattr(local.limits, 'num_cores', lambda: 7)
  assert local.divide_cores(1) == [set()]
  assert local.divide_cores(3) == [{0, 1}, {2, 3}, {4, 5}]
  assert local.divide_cores(9) == [set()] * 9


def test_gpus_are_divided_or_shared():
  assert local.divide_gpus(2, []) == [{}, {}]
  assert local.divide_gpus(1, ['0', '1']) == [{}]
  names = [
    each['CUDA_VISIBLE_DEVICES'] for each in local.divide_gpus(2, '0123')
  ]
  assert names == ['0,1', '2,3']
  shared = local.divide_gpus(4, ['0', '1'])
  assert [each['CUDA_VISIBLE_DEVICES'] for each in shared] == [*'0101']
  assert {e['XLA_PYTHON_CLIENT_MEM_FRACTION'] for e in shared} == {'0.45'}


def test_table_shows_results_and_what_is_left(tmp_path):
  runner, _ = start(tmp_path, WIDTHS, {'seed1': 'fail'}, jobs=1)
  entries = list(runner.entries.values())
  assert seconds_left(entries, 1) is None
  assert summary(runner, 1) == '4 runs: 4 waiting'
  runner.run()
  lines = format_table(entries)
  assert lines[0].split()[:4] == ['run', 'state', 'done', 'eval_accuracy']
  assert lines[1].split() == ['width8-seed0', 'complete', '100%', '0.5100']
  assert lines[2].split() == ['width8-seed1', 'failed', '0%']
  assert summary(runner, 1) == '4 runs: 2 complete, 2 failed'
  assert seconds_left(entries, 1) == 0
  short = format_table(entries, limit=2)
  assert [line.split()[0] for line in short] == [
    *('run', 'width8-seed1', 'width16-seed1', '...'),
  ]


def test_time_left_is_that_of_the_runs_of_the_row(tmp_path):
  runner, _ = start(tmp_path, WIDTHS)
  entries = list(runner.entries.values())
  runner.run()
  for entry, seconds in zip(entries, (10, 10, 40, 40), strict=True):
    entry.seconds = seconds
  entries[1].state = entries[3].state = 'waiting'
  for entry in entries[1], entries[3]:
    entry.progress = type(entry.progress)()
  assert seconds_left(entries, 1) == 50
  assert seconds_left(entries, 2) == 40
