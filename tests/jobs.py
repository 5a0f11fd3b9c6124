"""Runs of `train.py` in one or several processes, each started in a moment.

What each has to import, nearly all of the time of a start, is imported once.
"""

import atexit
import importlib.metadata
import multiprocessing
import os
import pathlib
import runpy
import socket
import sys
import time
from multiprocessing import forkserver
from unittest import mock

import jax

ROOT = pathlib.Path(__file__).parents[1]
PRELOADED = [
  'clu.metric_writers.summary_writer',
  'convmixer_jax.plots',
  'convmixer_jax.tools.cli',
  'convmixer_jax.training.loop',
  'sklearn.datasets',
]
STUCK_AFTER = 900  # seconds


def prepare(cache):
  """Returns what `Job` starts processes with.

  Args:
    cache: directory for compiled programs.
  """
  environment = {
    'GLIBC_TUNABLES': '',  # a forked process cannot be started anew
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PLATFORMS': 'cpu',
    'PYTHONPATH': str(ROOT),
    'TF_CPP_MIN_LOG_LEVEL': '2',
    'TF_ENABLE_ONEDNN_OPTS': '0',
    # Compiling is most of what is left of a start, and is not cached for
    # process 1.
    'XLA_FLAGS': '--xla_backend_optimization_level=0',
  }
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload(PRELOADED)
  # There is one for all; what `commands` began has another environment.
  forkserver._forkserver._stop()
  with mock.patch.dict(os.environ, environment):
    forkserver.ensure_running()
  return context


def train(arguments, log, num_devices, versions):
  """Is `python train.py ...`, in a process that was forked.

  Args:
    arguments: of the command.
    log: file that the output is added to.
    num_devices: that the CPU pretends to be.
    versions: of packages, where they are not to be found as they are.
  """
  file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(file, 1)
  os.dup2(file, 2)
  os.chdir(ROOT)
  sys.path.insert(0, str(ROOT))
  sys.argv = ['train.py', *arguments]
  jax.config.update('jax_num_cpu_devices', num_devices)
  find = importlib.metadata.version
  importlib.metadata.version = lambda name: versions.get(name) or find(name)
  try:
    runpy.run_path('train.py', run_name='__main__')
  finally:
    atexit._run_exitfuncs()  # which multiprocessing leaves out


class Job:
  """The processes of one run."""

  def __init__(
    self,
    context,
    workdir,
    flags,
    num_processes=1,
    num_devices=1,
    flags_of_last=(),
    versions_of_last=(),
  ):
    """Starts them.

    Args:
      context: from `prepare`.
      workdir: of the run; the outputs go beside it.
      flags: of all processes.
      num_processes: one, or several that find each other.
      num_devices: of each.
      flags_of_last: further ones of the last process.
      versions_of_last: see `train`.
    """
    self.workdir = workdir
    self.processes, self._logs = [], []
    with socket.socket() as free:
      free.bind(('localhost', 0))
      port = free.getsockname()[1]
    for i in range(num_processes):
      arguments = [f'--workdir={workdir}', *flags]
      if num_processes > 1:
        arguments += [
          f'--coordinator_address=localhost:{port}',
          f'--num_processes={num_processes}',
          f'--process_id={i}',
        ]
      versions = {}
      if i == num_processes - 1:
        arguments += flags_of_last
        versions |= versions_of_last
      log = workdir.with_name(f'{workdir.name}.{port}.{i}.txt')
      process = context.Process(
        target=train, args=(arguments, str(log), num_devices, versions)
      )
      process.start()
      self.processes.append(process)
      self._logs.append(log)

  def wait(self, seconds=STUCK_AFTER):
    """Returns the exit statuses, of processes killed if they do not leave."""
    give_up = time.monotonic() + seconds
    for process in self.processes:
      process.join(max(give_up - time.monotonic(), 0))
      process.kill()
      process.join()
    return [process.exitcode for process in self.processes]

  def outputs(self):
    """Returns what each process has printed."""
    return [log.read_text() if log.exists() else '' for log in self._logs]

  def output(self):
    """Returns it of all processes."""
    return '\n'.join(self.outputs())

  def finish(self):
    """Waits for the end of a run that nothing should go wrong with."""
    statuses = self.wait()
    assert not any(statuses), f'{statuses}\n{self.output()}'

  def rows(self):
    """Returns the lines of metrics.csv, which differ by speed if in nothing."""
    path = self.workdir / 'metrics.csv'
    return set(path.read_text().splitlines()) if path.exists() else set()
