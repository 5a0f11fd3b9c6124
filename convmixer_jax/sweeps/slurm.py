"""Runs as jobs of Slurm, through submitit: an array for each start.

The jobs do not end with the sweep: the same command finds those that are queued
or training, and starts what is missing.
"""

import ast
import operator
import pathlib
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from convmixer_jax.errors import UserError, one_line
from convmixer_jax.sweeps.executor import environment, train_command
from convmixer_jax.sweeps.grid import RECORDS
from convmixer_jax.sweeps.plan import Run
from convmixer_jax.sweeps.slurm_job import STATUS, TrainJob

_JOB = 'job'  # file with the number of the job of a run
_FILES = 'slurm'  # directory of submitit's files
_MAX_RUNS = 1000  # of an array, Slurm's usual limit
_ASK_EVERY = 2.0  # seconds
_DEFAULTS = {'job_name': 'sweep', 'signal_delay_s': 120, 'time': 60}
_UNKNOWN = 1  # exit status of a job that has left none
_TRAINING = ('RUNNING', 'COMPLETING')


class SlurmExecutor:
  """Jobs of the Slurm that this machine belongs to."""

  ends_with_sweep = False

  def __init__(self, workdir: str, jobs: int | None, parameters: Sequence[str]):
    """Starts nothing yet.

    Args:
      workdir: directory of the sweep, on a file system that the nodes share.
      jobs: how many run at a time; None for as many as Slurm allows.
      parameters: of submitit, as 'KEY=VALUE'.

    Raises:
      UserError: submitit or Slurm is not there, or a parameter is unknown.
    """
    try:
      import submitit
    except ImportError as error:
      raise UserError(
        '--executor=slurm needs submitit; install it: pip install '
        "'convmixer-jax[slurm]', or, in a checkout, pip install '.[slurm]'"
      ) from error
    for name in ('srun', 'sbatch', 'squeue', 'scontrol'):
      if not shutil.which(name):
        raise UserError(
          f'--executor=slurm needs {name}, which is not on PATH; start the '
          'command where the jobs of Slurm are submitted'
        )
    options: dict[str, Any] = dict(_DEFAULTS)
    options |= dict(map(_parse, parameters))
    if (options.get('nodes', 1), options.get('ntasks_per_node', 1)) != (1, 1):
      raise UserError(
        '--slurm asks for several nodes or tasks; a run of a sweep is one '
        'process of one node, which may have several GPUs'
      )
    if jobs is not None:
      options['array_parallelism'] = jobs
    folder = pathlib.Path(workdir).absolute() / RECORDS / _FILES / '%j'
    self._submitit = submitit.SlurmExecutor(folder)
    try:
      self._submitit.update_parameters(**options)
    except (TypeError, ValueError) as error:
      raise UserError(
        f'--slurm: {one_line(error, limit=None)}; give parameters of submitit'
      ) from error
    self._jobs: dict[str, tuple[Run, str]] = {}
    self._states: dict[str, str] = {}
    self._missing: set[str] = set()  # jobs that squeue did not list
    self._asked = 0.0

  def adopt(self, runs: Sequence[Run]) -> None:
    """Takes over the jobs of an earlier start of the sweep."""
    for run in runs:
      if (run.records / _JOB).exists():
        self._jobs[run.name] = run, (run.records / _JOB).read_text().strip()

  def room(self) -> int:
    """See Executor."""
    return _MAX_RUNS

  def start(self, runs: Sequence[Run]) -> None:
    """See Executor."""
    jobs = []
    for run in runs:
      (run.records / STATUS).unlink(missing_ok=True)
      jobs.append(TrainJob(train_command(run), str(run.records)))
    path = shlex.quote(environment()['PYTHONPATH'])
    self._submitit.update_parameters(setup=[f'export PYTHONPATH={path}'])
    try:
      submitted = self._submitit.map_array(operator.call, jobs)
    except Exception as error:  # of sbatch, as submitit reports it
      raise UserError(
        f'sbatch refuses the jobs ({one_line(error, limit=None)}); correct '
        '--slurm'
      ) from error
    for run, job in zip(runs, submitted, strict=True):
      (run.records / _JOB).write_text(job.job_id)
      self._jobs[run.name] = run, job.job_id
    self._asked = 0.0

  def states(self) -> dict[str, str]:
    """See Executor."""
    return {
      name: 'training'
      if self._states.get(job, 'PENDING') in _TRAINING
      else 'queued'
      for name, (_, job) in self._jobs.items()
    }

  def poll(self) -> dict[str, int]:
    """See Executor."""
    if not self._ask():
      return {}
    ended = {}
    missing = {j for _, j in self._jobs.values() if j not in self._states}
    for name, (run, job) in list(self._jobs.items()):
      status = run.records / STATUS
      # One that was just submitted may not be listed yet.
      if job in missing and (status.exists() or job in self._missing):
        ended[name] = int(status.read_text()) if status.exists() else _UNKNOWN
        (run.records / _JOB).unlink(missing_ok=True)
        del self._jobs[name]
    self._missing = missing
    return ended

  def stop(self) -> None:
    """See Executor."""

  def describe_stop(self) -> str:
    """See Executor."""
    jobs = sorted({job.partition('_')[0] for _, job in self._jobs.values()})
    if not jobs:
      return 'none of them is queued'
    return f'Slurm keeps the others (scancel {" ".join(jobs)} ends them)'

  def _ask(self) -> bool:
    """Reads the states of the jobs by number; returns whether they are new."""
    if time.monotonic() - self._asked < _ASK_EVERY:
      return False
    done = subprocess.run(
      ['squeue', '--me', '--array', '--noheader', '--format=%i %T'],
      capture_output=True,
      text=True,
      check=False,
    )
    if done.returncode:  # the controller may not answer for a while
      return False
    self._asked = time.monotonic()
    lines = map(str.split, done.stdout.splitlines())
    self._states = {line[0]: line[1] for line in lines if len(line) == 2}
    return True


def _parse(text):
  """Returns a parameter and its value."""
  name, equals, value = text.partition('=')
  if not equals or not name or not value:
    raise UserError(f'--slurm has {text!r}; give KEY=VALUE')
  try:
    return name, ast.literal_eval(value)
  except (SyntaxError, ValueError):
    return name, value
