"""A job of Slurm that trains a run, and requeues itself if it can resume."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence

STATUS = 'status'  # file with the exit status of a run whose job has ended
_PREEMPTED = 75
_LOST = (76, 134, 137, 143)  # as in docs/clusters.md
_MAX_RESTARTS = 20  # after these
_ENDS_WITHIN = 300  # seconds for Slurm to end a job that was requeued


class TrainJob:
  """Trains a run when it is called, in the job.

  Preemption is a SIGTERM or submitit's SIGUSR2, which is also that of the time
  limit: the run saves and ends with status 75, and Slurm queues the job again.
  """

  def __init__(self, command: Sequence[str], records: str):
    """Starts nothing yet.

    Args:
      command: that trains the run.
      records: directory for its log and exit status.
    """
    self._command, self._records = list(command), records

  def __call__(self) -> int:
    """Returns the exit status of the run, unless the job is requeued."""
    with open(os.path.join(self._records, 'log.txt'), 'ab') as log:
      process = subprocess.Popen(
        self._command, stdout=log, stderr=subprocess.STDOUT
      )

    def forward(number, frame):
      del number, frame
      if process.returncode is None:
        process.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGUSR2):
      signal.signal(number, forward)
    status = process.wait()
    if self._resumes(status):
      job = job_name()
      subprocess.run(['scontrol', 'requeue', job], check=True)
      time.sleep(_ENDS_WITHIN)
    path = os.path.join(self._records, STATUS)
    with open(f'{path}.new', 'w') as file:
      file.write(f'{status}\n')
    os.replace(f'{path}.new', path)  # the sweep never reads half of it
    return status

  def _resumes(self, status):
    """Whether the job is to be queued again."""
    restarts = int(os.environ.get('SLURM_RESTART_COUNT', 0))
    is_lost = status < 0 or status in _LOST
    if status != _PREEMPTED and not (is_lost and restarts < _MAX_RESTARTS):
      return False
    shown = subprocess.run(
      ['scontrol', '--oneliner', 'show', 'job', job_name()],
      capture_output=True,
      text=True,
      check=False,
    )
    return 'JobState=RUNNING' in shown.stdout  # not if it was cancelled


def job_name() -> str:
  """Returns how Slurm's commands name the job that this process is in."""
  if array := os.environ.get('SLURM_ARRAY_JOB_ID'):
    return f'{array}_{os.environ["SLURM_ARRAY_TASK_ID"]}'
  return os.environ['SLURM_JOB_ID']
