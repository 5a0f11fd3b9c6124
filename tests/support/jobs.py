"""Runs of `train.py` in one or several processes, each started in a moment."""

import atexit
import importlib.metadata
import itertools
import os
import runpy
import socket
import sys
import time

import forks
import jax
import machines

STUCK_AFTER = 900  # seconds
_numbers = itertools.count()  # of jobs, for the names of their outputs


def train(
  arguments, log, num_devices, versions, environment, prepare=machines.nothing
):
  """Is `python train.py ...`, in a process that was forked.

  Args:
    arguments: of the command.
    log: file that the output is added to.
    num_devices: that the CPU pretends to be.
    versions: of packages, in place of the installed ones.
    environment: variables to set.
    prepare: is called first.
  """
  file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(file, 1)
  os.dup2(file, 2)
  os.environ.update(environment)
  prepare()
  os.chdir(forks.ROOT)
  sys.path.insert(0, str(forks.ROOT))
  sys.argv = ['train.py', *arguments]
  jax.config.update('jax_num_cpu_devices', num_devices)
  find = importlib.metadata.version
  importlib.metadata.version = lambda name: versions.get(name) or find(name)
  try:
    runpy.run_path('train.py', run_name='__main__')
  finally:
    atexit._run_exitfuncs()  # which multiprocessing leaves out


def _reserve_port():
  """Returns a socket that keeps a port from all but gRPC, which shares it."""
  family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
  reserved = socket.socket(family)
  reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
  if family == socket.AF_INET6:
    reserved.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
  reserved.bind(('', 0))
  return reserved


class Job:
  """The processes of one run."""

  def __init__(
    self,
    workdir,
    flags,
    num_processes=1,
    num_devices=1,
    flags_of_last=(),
    versions_of_last=(),
    environment=(),
    prepare=machines.nothing,
  ):
    """Starts them.

    Args:
      workdir: of the run; the outputs go beside it.
      flags: of all processes.
      num_processes: one, or several that find each other.
      num_devices: of each.
      flags_of_last: further ones of the last process.
      versions_of_last: see `train`.
      environment: see `train`.
      prepare: see `train`.
    """
    self.workdir = workdir
    self.processes, self._logs = [], []
    self._reserved, number = None, next(_numbers)
    for i in range(num_processes):
      arguments = [f'--workdir={workdir}', *flags]
      if num_processes > 1:
        self._reserved = self._reserved or _reserve_port()
        port = self._reserved.getsockname()[1]
        arguments += [
          f'--coordinator_address=localhost:{port}',
          f'--num_processes={num_processes}',
          f'--process_id={i}',
        ]
      versions = {}
      if i == num_processes - 1:
        arguments += flags_of_last
        versions |= versions_of_last
      log = workdir.with_name(f'{workdir.name}.{number}.{i}.txt')
      process = forks.context().Process(
        target=train,
        args=(
          arguments,
          str(log),
          num_devices,
          versions,
          environment,
          prepare,
        ),
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
    if self._reserved:
      self._reserved.close()
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
