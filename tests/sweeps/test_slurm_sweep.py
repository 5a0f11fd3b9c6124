"""Sweeps whose runs are jobs of a real Slurm."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import slurm
from batch_jobs import count_rows
from run_files import read_rows

from convmixer_jax.errors import Preempted, UserError
from convmixer_jax.sweeps import Grid, plan
from convmixer_jax.sweeps.executor import train_command
from convmixer_jax.sweeps.runner import Runner
from convmixer_jax.sweeps.slurm import SlurmExecutor
from convmixer_jax.sweeps.slurm_job import TrainJob

GRID = Grid(
  'digits',
  {'model.width': [8, 16]},
  {
    'batch_size': 256,  # an epoch has 5 steps
    'model.depth': 1,
    'model.kernel_size': 3,
    'num_epochs': 8,
    'eval_every_epochs': 4,
    'log_every_steps': 1,
  },
)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
  """A running Slurm, which this process submits to."""
  pytest.importorskip('submitit')
  if reason := slurm.why_missing():
    pytest.skip(reason)
  with slurm.running(tmp_path / 'slurm') as running:
    for name in os.environ.keys() - running.environment.keys():
      monkeypatch.delenv(name)
    monkeypatch.setenv('SLURM_CONF', running.environment['SLURM_CONF'])
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path / 'compiled'))
    monkeypatch.setenv('XLA_FLAGS', '--xla_backend_optimization_level=0')
    yield running


def start(workdir, parameters=('cpus_per_task=1',), report=lambda *_: None):
  found = plan.make_plan([GRID], str(workdir))
  executor = SlurmExecutor(str(workdir), None, parameters)
  executor.adopt(found.runs)
  return Runner(found, executor, report)


def find_run(workdir):
  """Returns the ids of the processes that train in a directory."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
    with contextlib.suppress(OSError):  # it has ended
      words = path.read_bytes().decode(errors='replace').split('\0')
      if {'train', f'--workdir={workdir}'} <= set(words):
        found.append(int(path.parent.name))
  return found


@pytest.mark.slow
def test_preempted_jobs_resume_and_the_sweep_may_be_stopped(
  cluster, tmp_path, monkeypatch
):
  monkeypatch.setattr('convmixer_jax.sweeps.runner._POLL', 0.05)
  workdir = tmp_path / 'sweep'
  first, second = workdir / 'width8-seed0', workdir / 'width16-seed0'

  held, stopped = [], []

  def stop_sweep(runner, line):
    """Once both jobs train, preempts one of them and stops the sweep."""
    if not held and count_rows(first) >= 1:
      held.extend(find_run(first))  # else it may end before the other begins
      for process in held:
        os.kill(process, signal.SIGSTOP)
    if held and not stopped and count_rows(second) >= 3:
      stopped.append(True)
      job = (runner.plan.runs[0].records / 'job').read_text()
      assert job.endswith('_0')  # of an array
      cluster.call('scancel', '--signal=TERM', job)
      for process in held:
        os.kill(process, signal.SIGCONT)
      os.kill(os.getpid(), signal.SIGINT)

  with pytest.raises(Preempted, match=r'Slurm keeps the others \(scancel \d+'):
    start(workdir, report=stop_sweep).run()
  again = start(workdir)
  again.run()
  assert not again.failed()
  folders = (workdir / 'sweep' / 'slurm').glob('[0-9]*')
  jobs = {path.name.partition('_')[0] for path in folders}
  assert len(jobs) == 1  # none was submitted again
  log = (workdir / 'sweep' / first.name / 'log.txt').read_text()
  assert 'SIGTERM: saving at the end of this step' in log
  assert 'Resuming from step' in log
  (run, _) = plan.make_plan([GRID], str(tmp_path / 'undisturbed')).runs
  subprocess.run(train_command(run), check=True)
  assert read_rows(first) == read_rows(pathlib.Path(run.directory))


@pytest.mark.slow
def test_cancelled_job_is_a_failed_run(cluster, tmp_path):
  job = tmp_path / 'sweep' / 'sweep' / 'width8-seed0' / 'job'
  cancelled = []

  def cancel(runner, line):
    if not cancelled and job.exists():
      cancelled.append(cluster.call('scancel', job.read_text()))

  runner = start(tmp_path / 'sweep', report=cancel)
  runner.run()
  assert [entry.run.name for entry in runner.failed()] == ['width8-seed0']
  assert runner.entries['width16-seed0'].state == 'complete'


@pytest.mark.parametrize(
  ('parameters', 'message'),
  [
    (['partition'], "--slurm has 'partition'; give KEY=VALUE"),
    (['color=red'], r"--slurm: .*Unavailable parameter\(s\): \['color'\]"),
    (['nodes=2'], 'several nodes or tasks'),
  ],
)
def test_wrong_parameters_are_refused(monkeypatch, parameters, message):
  pytest.importorskip('submitit')
  monkeypatch.setattr('shutil.which', lambda name: name)
  with pytest.raises(UserError, match=message) as caught:
    SlurmExecutor('runs/sweep', None, parameters)
  assert '\n' not in str(caught.value)


def test_missing_slurm_is_named(monkeypatch):
  pytest.importorskip('submitit')
  monkeypatch.setattr('shutil.which', lambda name: None)
  with pytest.raises(UserError, match='needs srun, which is not on PATH'):
    SlurmExecutor('runs/sweep', None, [])


def test_missing_submitit_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'submitit', None)
  with pytest.raises(UserError, match=r"pip install 'convmixer-jax\[slurm\]'"):
    SlurmExecutor('runs/sweep', None, [])


@pytest.mark.parametrize(
  ('status', 'restarts', 'state', 'is_requeued'),
  [
    (0, 0, 'RUNNING', False),
    (1, 0, 'RUNNING', False),
    (75, 1000, 'RUNNING', True),
    (75, 0, 'CANCELLED', False),
    (76, 19, 'RUNNING', True),
    (76, 20, 'RUNNING', False),
  ],
)
def test_job_requeues_itself_if_the_run_can_resume(
  tmp_path, monkeypatch, status, restarts, state, is_requeued
):
  called = tmp_path / 'called'
  script = f'#!/bin/sh\n[ "$1" = requeue ] && echo "$@" > {called}\n'
  script += f'echo JobState={state}\n'
  (tmp_path / 'scontrol').write_text(script)
  (tmp_path / 'scontrol').chmod(0o755)
  monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
  monkeypatch.setenv('SLURM_ARRAY_JOB_ID', '7')
  monkeypatch.setenv('SLURM_ARRAY_TASK_ID', '3')
  monkeypatch.setenv('SLURM_RESTART_COUNT', str(restarts))
  monkeypatch.setattr('convmixer_jax.sweeps.slurm_job._ENDS_WITHIN', 0)
  before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR2)}
  try:
    job = TrainJob(['sh', '-c', f'exit {status}'], str(tmp_path))
    assert job() == status
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
  assert called.exists() == is_requeued
  if is_requeued:
    assert called.read_text() == 'requeue 7_3\n'
