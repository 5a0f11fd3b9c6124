"""A Slurm of one node on this machine, which ends with its `with` block.

The daemons are child processes, listen on loopback, and keep all files in a
directory of their own: a Slurm that the machine may have is left alone.
"""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

_PROGRAMS = ('munged', 'mungekey', 'slurmctld', 'slurmd', 'sbatch', 'srun')
_STUCK_AFTER = 900  # seconds
_DAEMONS = ('munged', 'slurmctld', 'slurmscriptd', 'slurmd')
_REQUEUE_DELAY = 10  # seconds; Slurm's default is 120

_CONF = """
ClusterName=test
FirstJobId={first_job}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={directory}/munge/socket,cred_expire={requeue_delay}
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP
"""


def why_missing() -> str | None:
  """Returns why Slurm cannot be started here; None if it can be."""
  missing = [name for name in _PROGRAMS if not _find(name)]
  if missing:
    return f'not installed: {", ".join(missing)} (Debian: slurm-wlm, munge)'
  if os.geteuid() != 0:
    return "Slurm's daemons must be started as root"
  try:
    socket.gethostbyname(_host())
  except OSError:
    return f'the host name {_host()} has no address, as in /etc/hosts'
  return None


class Slurm:
  """Jobs of the running Slurm."""

  def __init__(self, environment: dict[str, str]):
    """Takes the environment in which its commands find it."""
    self.environment = environment

  def call(self, *command: str, **options) -> str:
    """Returns the output of a command that must not fail."""
    done = subprocess.run(
      command,
      env=self.environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      **options,
    )
    assert done.returncode == 0, f'{command}: {done.stdout}'
    return done.stdout.strip()

  def show(self, job: str) -> dict[str, str]:
    """Returns what `scontrol show job` says, by name: JobState, ExitCode..."""
    shown = self.call('scontrol', '--oneliner', 'show', 'job', job)
    pairs = (word.split('=', 1) for word in shown.split() if '=' in word)
    return dict(pairs)


def wait_until(condition: Callable[[], object], explain: Callable[[], object]):
  """Waits until the condition is true.

  Args:
    condition: asked again and again.
    explain: what to say if it never is.
  """
  give_up = time.monotonic() + _STUCK_AFTER
  while not condition():
    assert time.monotonic() < give_up, explain()
    time.sleep(0.02)


def find_processes(**variables: str) -> list[int]:
  """Returns the ids of processes that have these environment variables."""
  wanted = {f'{name}={value}'.encode() for name, value in variables.items()}
  found = []
  for process in pathlib.Path('/proc').glob('[0-9]*'):
    with contextlib.suppress(OSError):  # it has ended
      if wanted <= set((process / 'environ').read_bytes().split(b'\0')):
        found.append(int(process.name))
  return found


def parent_of(pid: int) -> int:
  """Returns the id of the process that has started another.

  Raises:
    OSError: it has ended.
  """
  status = pathlib.Path(f'/proc/{pid}/status').read_text()
  (line,) = (line for line in status.splitlines() if line.startswith('PPid:'))
  return int(line.split()[1])


def environment_outside_jobs() -> dict[str, str]:
  """Returns this process's, without what names a job that it may belong to."""
  of_jobs = 'SLURM', 'SBATCH_', 'SRUN_', 'OMPI_', 'PMI'
  return {k: v for k, v in os.environ.items() if not k.startswith(of_jobs)}


@contextlib.contextmanager
def running(directory: pathlib.Path) -> Iterator[Slurm]:
  """Runs Slurm; ends its jobs and daemons at the end, also after an error.

  Args:
    directory: a new one, for all files.
  """
  for name in ('munge', 'state', 'spool'):
    (directory / name).mkdir(mode=0o755, parents=True)
  munge = directory / 'munge'
  conf = directory / 'slurm.conf'
  controller_port, node_port = _free_ports(2)
  conf.write_text(
    _CONF.format(
      host=_host(),
      directory=directory,
      controller_port=controller_port,
      node_port=node_port,
      requeue_delay=_REQUEUE_DELAY,
      # JAX derives its port from the number of the job.
      first_job=random.randint(1, 4000),
    )
  )
  slurm = Slurm(environment_outside_jobs() | {'SLURM_CONF': str(conf)})
  with contextlib.ExitStack() as stack:
    slurm.call(_find('mungekey'), '--create', f'--keyfile={munge}/key')
    munged = [
      *(_find('munged'), '--foreground', '--force'),
      *(f'--key-file={munge}/key', f'--socket={munge}/socket'),
      *(f'--pid-file={munge}/pid', f'--log-file={munge}/log'),
      f'--seed-file={munge}/seed',
    ]
    commands = (
      munged,
      [_find('slurmctld'), '-D', '-f', conf],
      [_find('slurmd'), '-D', '-f', conf],
    )
    logs = []
    for command in commands:
      logs.append(directory / f'{pathlib.Path(command[0]).name}.txt')
      stack.enter_context(_daemon(command, logs[-1], slurm.environment))
      if command is munged:
        wait_until((munge / 'socket').exists, logs[-1].read_text)
    stack.callback(_end_jobs, slurm, directory)
    state = ['sinfo', '--noheader', '--format=%T']
    wait_until(
      lambda: _output(state, slurm.environment) == 'idle',
      lambda: [log.read_text() for log in logs],
    )
    yield slurm


@contextlib.contextmanager
def _daemon(command, log, environment):
  with log.open('w') as file:
    process = subprocess.Popen(
      # Ends it also if this process is killed.
      ['setpriv', '--pdeathsig', 'KILL', *map(str, command)],
      env=environment,
      stdout=file,
      stderr=file,
      start_new_session=True,
    )
  try:
    yield
  finally:  # slurmctld takes minutes to end by SIGTERM
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_jobs(slurm, directory):
  """Ends the jobs, and what a job or its manager may have left."""
  queue = ['squeue', '--noheader', '--format=%i']
  give_up = time.monotonic() + 60
  while jobs := _output(queue, slurm.environment).split():
    if time.monotonic() > give_up:
      break
    subprocess.run(
      ['scancel', '--signal=KILL', '--full', *jobs],
      env=slurm.environment,
      stderr=subprocess.DEVNULL,
    )
    subprocess.run(
      ['scancel', *jobs], env=slurm.environment, stderr=subprocess.DEVNULL
    )
    time.sleep(0.2)
  for pid in find_processes(SLURM_CONF=f'{directory}/slurm.conf'):
    with contextlib.suppress(OSError):
      name = pathlib.Path(f'/proc/{pid}/comm').read_text().strip()
      if name not in _DAEMONS:
        os.kill(pid, signal.SIGKILL)


def _output(command, environment):
  done = subprocess.run(
    command, env=environment, capture_output=True, text=True
  )
  return done.stdout.strip()


def _find(name):
  """Returns the path of a program, also where only root's PATH has it."""
  return shutil.which(name) or shutil.which(name, path='/usr/sbin:/sbin')


def _host():
  return socket.gethostname().split('.')[0]


def _free_ports(number):
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
    for each in sockets:
      each.bind(('127.0.0.1', 0))
    return [each.getsockname()[1] for each in sockets]
