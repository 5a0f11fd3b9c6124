"""Runs on this machine: some processes at a time, which share its cores."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from convmixer_jax import limits
from convmixer_jax.sweeps.executor import environment, train_command
from convmixer_jax.sweeps.plan import Run

_MEMORY_SHARE = 0.9  # of a GPU that several runs share
_LAUNCH = os.path.join(os.path.dirname(__file__), 'launch.py')


class LocalExecutor:
  """Processes of this machine, each of which has its share of the cores.

  A run is a process of its own, which a Ctrl-C in the terminal does not reach:
  `stop` asks it to save. On Linux it also does that when this process dies.
  """

  ends_with_sweep = True

  def __init__(
    self,
    jobs: int,
    command: Callable[[Run], list[str]] = train_command,
  ):
    """Starts nothing yet.

    Args:
      jobs: how many at a time.
      command: that trains a run.
    """
    self._command = command
    self._cores = divide_cores(jobs)
    self._gpus = divide_gpus(jobs, visible_gpus())
    self._slots: list[tuple[Run, subprocess.Popen] | None] = [None] * jobs

  def room(self) -> int:
    """See Executor."""
    return self._slots.count(None)

  def start(self, runs: Sequence[Run]) -> None:
    """See Executor."""
    for run in runs:
      slot = self._slots.index(None)
      command = self._command(run)  # writes its config
      with open(run.log, 'ab') as log:
        process = subprocess.Popen(
          self._launched(slot, command),
          stdin=subprocess.DEVNULL,
          stdout=log,
          stderr=subprocess.STDOUT,
          env=environment() | self._gpus[slot],
          start_new_session=True,
        )
      self._slots[slot] = run, process

  def _launched(self, slot, command):
    cores = ','.join(map(str, sorted(self._cores[slot])))
    return [sys.executable, '-I', _LAUNCH, str(os.getpid()), cores, *command]

  def states(self) -> dict[str, str]:
    """See Executor."""
    return {slot[0].name: 'training' for slot in self._slots if slot}

  def poll(self) -> dict[str, int]:
    """See Executor."""
    ended = {}
    for number, slot in enumerate(self._slots):
      if slot and (status := slot[1].poll()) is not None:
        ended[slot[0].name] = status
        self._slots[number] = None
    return ended

  def stop(self) -> None:
    """See Executor."""
    for slot in self._slots:
      if slot and slot[1].poll() is None:
        slot[1].send_signal(signal.SIGTERM)

  def describe_stop(self) -> str:
    """See Executor."""
    return 'what the others had is saved'


def divide_cores(jobs: int) -> list[set[int]]:
  """Returns for each job the cores it may use: of all jobs as many.

  JAX and the threads that make batches then start as many threads as that.

  Args:
    jobs: that run at the same time.

  Returns:
    Sets of numbers of cores; empty ones where cores cannot be assigned, as on
    macOS, or if there are more jobs than cores.
  """
  if not hasattr(os, 'sched_getaffinity') or jobs == 1:
    return [set() for _ in range(jobs)]
  cores = sorted(os.sched_getaffinity(0))
  each = min(len(cores), limits.num_cores()) // jobs
  return [set(cores[i * each : (i + 1) * each]) for i in range(jobs)]


def visible_gpus() -> list[str]:
  """Returns the names, for CUDA_VISIBLE_DEVICES, of the NVIDIA GPUs here."""
  if (chosen := os.environ.get('CUDA_VISIBLE_DEVICES')) is not None:
    return [name for name in chosen.split(',') if name not in ('', '-1')]
  if os.environ.get('JAX_PLATFORMS') == 'cpu' or not shutil.which('nvidia-smi'):
    return []
  listed = subprocess.run(
    ['nvidia-smi', '--list-gpus'], capture_output=True, text=True, check=False
  )
  return re.findall(r'^GPU (\d+):', listed.stdout, re.MULTILINE)


def divide_gpus(jobs: int, gpus: Sequence[str]) -> list[dict[str, str]]:
  """Returns for each job the environment variables that give it its GPUs.

  Args:
    jobs: that run at the same time.
    gpus: names of those of this machine.
  """
  if not gpus or jobs == 1:
    return [{} for _ in range(jobs)]
  if jobs <= len(gpus):
    each = len(gpus) // jobs
    return [
      {'CUDA_VISIBLE_DEVICES': ','.join(gpus[i * each : (i + 1) * each])}
      for i in range(jobs)
    ]
  share = _MEMORY_SHARE / -(-jobs // len(gpus))
  return [
    {
      'CUDA_VISIBLE_DEVICES': gpus[i % len(gpus)],
      'XLA_PYTHON_CLIENT_MEM_FRACTION': f'{share:.2f}',
    }
    for i in range(jobs)
  ]
