"""Runs of two processes under a real Slurm and a real mpirun."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import jax
import jobs
import numpy as np
import pytest
import slurm
import small_run
from batch_jobs import BatchJob, batch_script, count_rows
from run_files import assert_identical, read_rows, read_state

from convmixer_jax.distributed.watchdog import EXIT_STATUS
from convmixer_jax.errors import Preempted

ROOT = pathlib.Path(__file__).parents[2]
NUM_STEPS = 60
FLAGS = [
  *small_run.WITH_MIXUP,
  f'--config.num_steps={NUM_STEPS}',
  '--config.eval_every_epochs=1000',
  '--config.log_every_steps=1',
  '--config.checkpoint_every_steps=10',
  '--config.learning_rate=0.001',
]


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
  """Of `train.py`: compiles little, and once."""
  return {
    'JAX_COMPILATION_CACHE_DIR': str(tmp_path_factory.mktemp('compiled')),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PLATFORMS': 'cpu',
    'PATH': f'{pathlib.Path(sys.executable).parent}:{os.environ["PATH"]}',
    'XLA_FLAGS': '--xla_backend_optimization_level=0',
  }


@pytest.fixture(scope='module')
def one_process(tmp_path_factory):
  """The directory of a run of one process."""
  workdir = tmp_path_factory.mktemp('one') / 'run'
  jobs.Job(workdir, FLAGS).finish()
  return workdir


def assert_close(workdir, expected):
  """Compares metrics and state, up to the order of sums.

  Each process sums over half of the batch, so the sums of float32 are rounded
  otherwise: seen are differences of 5e-7. They grow with the learning rate.
  """
  rows, expected_rows = read_rows(workdir), read_rows(expected)
  assert [row['step'] for row in rows] == [row['step'] for row in expected_rows]
  for row, other in zip(rows, expected_rows, strict=True):
    assert row.keys() == other.keys()
    for name, value in row.items():
      np.testing.assert_allclose(
        value, other[name], rtol=1e-5, err_msg=f'{name} at {row["step"]}'
      )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    read_state(workdir, NUM_STEPS),
    read_state(expected, NUM_STEPS),
  )


@pytest.fixture(scope='module')
def cluster(tmp_path_factory, environment):
  """A running Slurm."""
  if reason := slurm.why_missing():
    pytest.skip(reason)
  with slurm.running(tmp_path_factory.mktemp('slurm') / 'files') as running:
    running.environment.update(environment)
    yield running


@pytest.mark.parametrize(
  ('status', 'earlier_restarts', 'is_requeued'),
  [
    (0, None, False),
    (1, None, False),
    (75, None, True),
    (75, 1000, True),
    (76, None, True),
    (134, 3, True),
    (137, 19, True),
    (137, 20, False),
    (143, None, True),
  ],
)
def test_batch_script_requeues_a_job_that_can_resume(
  tmp_path, status, earlier_restarts, is_requeued
):
  for name, text in (
    ('srun', f'exit {status}'),
    ('scontrol', f'echo "$@" > {tmp_path}/called'),
  ):
    (tmp_path / name).write_text(f'#!/bin/sh\n{text}\n')
    (tmp_path / name).chmod(0o755)
  variables = {'SLURM_JOB_ID': '7', 'PATH': f'{tmp_path}:{os.environ["PATH"]}'}
  if earlier_restarts is not None:
    variables['SLURM_RESTART_COUNT'] = str(earlier_restarts)
  done = subprocess.run(['bash', '-c', batch_script()], env=variables)
  called = tmp_path / 'called'
  assert called.exists() == is_requeued
  if is_requeued:
    assert called.read_text() == 'requeue 7\n'
  else:
    assert done.returncode == status


@pytest.fixture(scope='module')
def undisturbed(cluster, tmp_path_factory):
  """A finished job."""
  batch = BatchJob(cluster, tmp_path_factory.mktemp('undisturbed'), FLAGS)
  assert batch.finish()['Restarts'] == '0'
  return batch


@pytest.mark.slow
def test_srun_trains_as_one_process(undisturbed, one_process):
  assert '[0/2] eval_accuracy = ' in undisturbed.output()
  assert_close(undisturbed.workdir, one_process)


@pytest.mark.slow
def test_job_resumes_bit_for_bit_after_sigterm_and_after_a_dead_process(
  cluster, undisturbed, tmp_path
):
  job = BatchJob(cluster, tmp_path, FLAGS)
  task = job.wait_for_rows(3)
  os.kill(task, signal.SIGSTOP)  # the run does not end before it is stopped
  cluster.call('scancel', '--signal=TERM', job.id)
  os.kill(task, signal.SIGCONT)
  job.wait_for_restart(1)
  assert job.exit_statuses() == {Preempted.EXIT_STATUS}, job.output()
  (stopped_at,) = set(re.findall(r'step (\d+) is saved', job.output()))
  os.kill(job.wait_for_rows(int(stopped_at) + 3), signal.SIGKILL)
  assert f'Resuming from step {stopped_at} of' in job.output()
  job.wait_for_restart(2)
  assert 'task 1: Killed' in job.output()
  assert job.exit_statuses() == {Preempted.EXIT_STATUS, EXIT_STATUS}
  (line,) = re.findall('.*error: another process.*', job.output())
  assert line.startswith('[0/2] error: another process seems to have died (')

  assert job.finish()['Restarts'] == '2'
  assert_identical(
    read_state(job.workdir, NUM_STEPS),
    read_state(undisturbed.workdir, NUM_STEPS),
  )
  assert read_rows(job.workdir) == read_rows(undisturbed.workdir)


@pytest.mark.slow
def test_cancelled_job_is_not_requeued(cluster, tmp_path):
  job = BatchJob(cluster, tmp_path, FLAGS)
  job.wait_until(lambda: job.find_tasks(1))
  cluster.call('scancel', job.id)
  job.wait_until(job.has_ended)
  shown = job.show()
  assert (shown['JobState'], shown['Restarts']) == ('CANCELLED', '0')


@pytest.fixture
def mpirun(environment):
  """Starts `mpirun -n 2 python train.py`, and returns its process."""
  if not shutil.which('mpirun'):
    pytest.skip('not installed: mpirun (Debian: openmpi-bin)')
  version = subprocess.run(
    ['mpirun', '--version'], capture_output=True, text=True
  ).stdout
  if not re.match(r'mpirun \(Open MPI\) [34]\.', version):
    pytest.skip(f'JAX finds the processes of Open MPI 3 and 4 only: {version}')
  with contextlib.ExitStack() as stack:

    def start(workdir):
      log = stack.enter_context(workdir.with_name('log.txt').open('w'))
      process = subprocess.Popen(
        ['mpirun', '-n', '2', 'python', 'train.py', *FLAGS]
        + [f'--workdir={workdir}'],
        cwd=ROOT,
        env=slurm.environment_outside_jobs()
        | environment
        | {
          'OMPI_ALLOW_RUN_AS_ROOT': '1',
          'OMPI_ALLOW_RUN_AS_ROOT_CONFIRM': '1',
          'OMPI_MCA_rmaps_base_oversubscribe': '1',  # also on one core
        },
        stdout=log,
        stderr=log,
      )
      stack.callback(process.wait)
      stack.callback(process.terminate)  # which ends both, if they still run
      return process

    yield start


@pytest.mark.slow
def test_mpirun_trains_as_one_process_also_after_sigterm_to_one_of_two(
  mpirun, one_process, tmp_path
):
  workdir, log = tmp_path / 'run', tmp_path / 'log.txt'
  process = mpirun(workdir)
  slurm.wait_until(
    lambda: count_rows(workdir) >= 3 or process.poll() is not None,
    log.read_text,
  )
  os.kill(find_rank(process, 1), signal.SIGTERM)
  status = process.wait(jobs.STUCK_AFTER)
  assert status == Preempted.EXIT_STATUS, log.read_text()
  status = mpirun(workdir).wait(jobs.STUCK_AFTER)
  assert status == 0, log.read_text()
  assert '[0/2] Resuming from step' in log.read_text()
  assert_close(workdir, one_process)


def find_rank(process, number):
  """Returns the id of the training process with this number."""
  found = []
  for pid in slurm.find_processes(OMPI_COMM_WORLD_RANK=str(number)):
    with contextlib.suppress(OSError):  # one that the rank started has ended
      if slurm.parent_of(pid) == process.pid:
        found.append(pid)
  (rank,) = found
  return rank
