"""Connects the processes of a run: flags, Cloud TPU, Slurm, Open MPI."""

import os
import pathlib
import re
import sys
from typing import TextIO

import jax
from absl import logging

from convmixer_jax.errors import UserError

_HEARTBEAT_TIMEOUT = 60  # seconds without a sign of life from a process


def join(
  distributed: bool | None,
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Connects to the other processes, if there are any.

  After that each line of output begins with the number of the process, from 0,
  and their count: `[1/2]`. JAX ends all processes a minute after one died or
  was frozen, unless a collective failed before; `watchdog.py` handles one that
  hangs.

  Args:
    distributed: True: connect the processes of the Cloud TPU slice or of the
      Slurm, Open MPI or Kubernetes job. False: this process is alone. None:
      connect if an address is given or the environment names several.
    coordinator_address: host:port of process 0; None to detect it.
    num_processes: number of processes; None to detect it.
    process_id: of this process, from 0; None to detect it.

  Raises:
    UserError: the other processes are not known, or did not connect.
  """
  if coordinator_address is None and (num_processes, process_id) != (None,) * 2:
    raise UserError(
      '--num_processes and --process_id need --coordinator_address; give '
      'host:port of process 0'
    )
  if distributed is None:
    distributed = coordinator_address is not None or _started_with_others()
  if not distributed:
    return
  if coordinator_address is not None:  # JAX knows Open MPI below 5 only
    if num_processes is None:
      num_processes = _number('OMPI_COMM_WORLD_SIZE')
    if process_id is None:
      process_id = _number('OMPI_COMM_WORLD_RANK')
  try:
    jax.distributed.initialize(
      coordinator_address,
      num_processes,
      process_id,
      local_device_ids=_all_gpus_of_this_host(),
      heartbeat_timeout_seconds=_HEARTBEAT_TIMEOUT,
    )
  except ValueError as error:
    raise UserError(
      f'the other processes are not known ({error}): neither Cloud TPU nor '
      'Slurm, Open MPI or Kubernetes names them; give --coordinator_address, '
      '--num_processes and --process_id'
    ) from error
  except RuntimeError as error:
    raise UserError(
      f'the processes could not connect ({error}); start all of them, with an '
      'address of process 0 that each can reach'
    ) from error
  _number_lines()


def _started_with_others() -> bool:
  """Whether the environment names several processes that run this command.

  Of Slurm, only the tasks of this step count: in a batch script and in the
  shell of `salloc`, which may be a step of one task, SLURM_NTASKS is the number
  that `srun` would start. A Kubernetes pod cannot know, nor can a Cloud TPU VM
  without a request for metadata.
  """
  if (_number('SLURM_STEP_NUM_TASKS') or 1) > 1:
    return True
  if (_number('OMPI_COMM_WORLD_SIZE') or 1) > 1:
    return True
  return ',' in os.environ.get('TPU_WORKER_HOSTNAMES', '')


def _all_gpus_of_this_host() -> list[int] | None:
  """Returns the numbers of all GPUs if there is one process for each host.

  Under Slurm and Open MPI JAX would assign one GPU to each process.
  """
  per_host = _number('OMPI_COMM_WORLD_LOCAL_SIZE')
  if per_host is None:  # else Slurm's variables may be those of mpirun itself
    tasks = os.environ.get('SLURM_STEP_TASKS_PER_NODE', '')  # such as 1(x2)
    per_host = 1 if re.fullmatch(r'1(\(x\d+\))?', tasks) else None
  if per_host != 1:
    return None
  if 'JAX_LOCAL_DEVICE_IDS' in os.environ:
    return None
  visible = os.environ.get('CUDA_VISIBLE_DEVICES')
  if visible is None:
    number = len(list(pathlib.Path('/dev').glob('nvidia[0-9]*')))
  else:
    number = len(list(filter(None, visible.split(','))))
  return list(range(number)) or None


def _number(variable: str) -> int | None:
  text = os.environ.get(variable, '')
  return int(text) if text.isdigit() else None


class _Numbered:
  """A text stream whose lines begin with the number of the process."""

  def __init__(self, stream: TextIO, prefix: str):
    self._stream, self._prefix = stream, prefix
    self._at_start = True

  def write(self, text: str) -> int:
    """Writes, with the number at the start of each line."""
    if not text:
      return 0
    ends = text.endswith('\n')
    lines = text.removesuffix('\n').replace('\n', f'\n{self._prefix}')
    lines = self._prefix + lines if self._at_start else lines
    self._stream.write(lines + '\n' * ends)
    self._at_start = ends
    return len(text)

  def __getattr__(self, name):
    return getattr(self._stream, name)


def _number_lines() -> None:
  prefix = f'[{jax.process_index()}/{jax.process_count()}] '
  sys.stdout = _Numbered(sys.stdout, prefix)
  sys.stderr = _Numbered(sys.stderr, prefix)
  logging.get_absl_handler().python_handler.setStream(sys.stderr)
