"""Jobs of the batch script in docs/clusters.md."""

import contextlib
import pathlib
import re

import slurm

ROOT = pathlib.Path(__file__).parents[2]


def batch_script():
  """Returns the one for Slurm in docs/clusters.md."""
  page = (ROOT / 'docs' / 'clusters.md').read_text()
  (script,) = re.findall(r'```sh\n(#!/bin/bash\n.*?)```', page, re.DOTALL)
  return script


def count_rows(workdir):
  """Returns the number of steps in metrics.csv, which may not exist yet."""
  path = workdir / 'metrics.csv'
  return len(path.read_text().splitlines()) - 1 if path.exists() else 0


class BatchJob:
  """A job of that script, as two processes of one node."""

  def __init__(self, cluster, directory, flags):
    """Submits it.

    Args:
      cluster: a `slurm.Slurm`.
      directory: a new one, for the run and the output.
      flags: of `train.py`.
    """
    self.workdir = directory / 'run'
    self._cluster, self._log = cluster, directory / 'log.txt'
    (directory / 'train.sbatch').write_text(batch_script())
    self.id = cluster.call(
      *('sbatch', '--parsable', f'--output={self._log}'),
      *('--nodes=1', '--ntasks-per-node=2', str(directory / 'train.sbatch')),
      *(*flags, f'--workdir={self.workdir}'),
      cwd=ROOT,
    )

  def output(self):
    """Returns what all its starts have printed."""
    return self._log.read_text() if self._log.exists() else ''

  def exit_statuses(self):
    """Returns those that srun has reported so far: all but 0."""
    return set(map(int, re.findall(r'with exit code (\d+)', self.output())))

  def wait_until(self, condition):
    """Waits for what only a job that is stuck never does."""
    slurm.wait_until(condition, lambda: f'{self.show()}\n{self.output()}')

  def show(self):
    """Returns what Slurm says of it, by name."""
    return self._cluster.show(self.id)

  def has_ended(self):
    state = self.show()['JobState']
    return state not in ('PENDING', 'CONFIGURING', 'RUNNING', 'COMPLETING')

  def wait_for_rows(self, number):
    """Waits for that many steps; returns the id of the second process."""
    self.wait_until(lambda: self.find_tasks(1) or self.has_ended())
    (task,) = self.find_tasks(1)
    running = pathlib.Path(f'/proc/{task}')
    self.wait_until(
      lambda: count_rows(self.workdir) >= number or not running.exists()
    )
    return task

  def wait_for_restart(self, number):
    """Waits until Slurm has requeued it that many times."""
    self.wait_until(
      lambda: self.has_ended() or self.show()['Restarts'] == str(number)
    )
    assert self.show()['Restarts'] == str(number), self.output()

  def finish(self):
    """Waits for its end, which must be a good one; returns `show()`."""
    self.wait_until(self.has_ended)
    shown = self.show()
    assert shown['JobState'] == 'COMPLETED', self.output()
    return shown

  def find_tasks(self, number):
    """Returns the ids of the training processes with this number.

    A process that one of them is about to start has its command line and
    variables; it is left out, as is one that ends meanwhile.
    """
    parents = {}
    for pid in slurm.find_processes(
      SLURM_JOB_ID=self.id, SLURM_PROCID=str(number)
    ):
      with contextlib.suppress(OSError):
        if b'train.py' in pathlib.Path(f'/proc/{pid}/cmdline').read_bytes():
          parents[pid] = slurm.parent_of(pid)
    return [pid for pid, parent in parents.items() if parent not in parents]
