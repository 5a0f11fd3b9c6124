"""The runs of `torture.py`, and the faults that it causes in them."""

import contextlib
import os
import pathlib
import signal
import time

import jobs
import machines
import small_run

NUM_STEPS = 60
FLAGS = [
  *small_run.WITH_MIXUP,
  f'--config.num_steps={NUM_STEPS}',
  '--config.eval_every_epochs=1',
  '--config.log_every_steps=3',
  '--config.checkpoint_every_steps=4',
]

WORKERS = ['--config.input.num_workers=2']
# Moments whose job has other flags, or a process that is prepared.
VARIANTS = {
  'worker': (WORKERS, machines.nothing),
  'full shared memory': (WORKERS, machines.fill_shared_memory),
  'clock': ([], machines.set_clock_back),
}
PREEMPTED = IN_USE = 75  # the exit statuses
ENDS_WITHIN = 120  # seconds for a run that has lost a worker
EXITS_WITHIN = 3  # seconds for the process that was not killed
POLL = 0.02  # seconds


class Failure(Exception):
  """The run does not behave as specified."""


class Job(jobs.Job):
  """Two processes of one run."""

  def __init__(self, workdir, moment=None):
    flags, prepare = VARIANTS.get(moment, ([], machines.nothing))
    super().__init__(workdir, FLAGS + flags, num_processes=2, prepare=prepare)

  def has_ended(self):
    return not all(process.is_alive() for process in self.processes)

  def wait_for_new(self, list_items, number):
    """Waits for `number` new items; returns whether they appeared."""
    give_up = time.monotonic() + jobs.STUCK_AFTER
    before, seen = list_items(), set()
    while len(seen) < number:
      if self.has_ended():
        return False
      if time.monotonic() > give_up:
        self.wait(0)
        raise Failure(f'stuck for {jobs.STUCK_AFTER} s\n{self.output()}')
      time.sleep(POLL)
      seen |= list_items() - before
    return True

  def unfinished(self):
    """Returns the incomplete checkpoints."""
    return set(self.workdir.glob('checkpoints/*.orbax-checkpoint-tmp'))


def disturb(job, rng, moment):
  """Causes a fault; returns its description, or None if the run had ended."""
  if moment == 'start':
    time.sleep(rng.uniform(0, 8))
  elif moment == 'checkpoint':
    if not job.wait_for_new(job.unfinished, rng.randint(1, 3)):
      return None
    time.sleep(rng.uniform(0, 0.3))
  elif job.wait_for_new(job.rows, rng.randint(1, 5)):
    time.sleep(rng.uniform(0, 1))
  if job.has_ended():
    return had_no_memory(job) if moment == 'full shared memory' else None
  if moment == 'preemption':
    victim = rng.randrange(2)
    number = rng.choice([signal.SIGTERM, signal.SIGINT])
    os.kill(job.processes[victim].pid, number)
    statuses = job.wait()
    if statuses == [0, 0]:  # the run was at its last step
      return None
    if statuses != [PREEMPTED] * 2:
      raise Failure(f'{number.name} ended in {statuses}\n{job.output()}')
    return f'{number.name} to process {victim}'
  if moment == 'worker':
    return kill_worker(job, rng)
  if moment == 'second writer' and not refuse_second(job):
    return None
  victims = rng.choice([[0], [1], [0, 1]])
  for i in victims:
    job.processes[i].kill()
  half = ', a checkpoint half written' if job.unfinished() else ''
  statuses = job.wait(EXITS_WITHIN)
  names = ' and '.join(map(str, victims))
  other = ''
  for i in {0, 1} - set(victims):
    by_itself = statuses[i] != -signal.SIGKILL
    other = f'; process {i} {"exited" if by_itself else "had to be killed"}'
  return f'SIGKILL to process {names}{half}{other}'


def had_no_memory(job):
  """Returns how a run ended for want of shared memory, if it did."""
  statuses = job.wait(ENDS_WITHIN)
  if 1 not in statuses:
    return None
  if 'error: ' not in job.output() or 'Traceback' in job.output():
    raise Failure(f'full /dev/shm: {statuses}\n{job.output()}')
  return f'ended in {statuses}'


def kill_worker(job, rng):
  """Kills a process that makes batches; the run must end by itself."""
  victim = rng.randrange(2)
  children = find_children(job.processes[victim].pid)
  if not children:
    return None
  os.kill(rng.choice(children), signal.SIGKILL)
  statuses = job.wait(ENDS_WITHIN)
  if statuses == [0, 0]:  # the run was at its last step
    return None
  if statuses[victim] != 1 or 'was ended by SIGKILL' not in job.output():
    raise Failure(f'a worker died: {statuses}\n{job.output()}')
  return f'SIGKILL to a worker of process {victim}'


def find_children(pid):
  """Returns the worker processes of a process."""
  children = []
  for status in pathlib.Path('/proc').glob('[0-9]*/status'):
    with contextlib.suppress(OSError):
      is_child = f'\nPPid:\t{pid}\n' in status.read_text()
      command = (status.parent / 'cmdline').read_bytes()
      if is_child and b'spawn_main' in command:
        children.append(int(status.parent.name))
  return children


def refuse_second(job):
  """Starts the same command again, which must write nothing.

  Returns:
    Whether it was refused; False if the run had ended before.

  Raises:
    Failure: it was not refused, although the run had not ended.
  """
  second = jobs.Job(job.workdir, FLAGS)
  statuses = second.wait()
  is_refused = 'is in use by process' in second.output()
  if not (is_refused and statuses == [IN_USE]) and not job.has_ended():
    raise Failure(f'a second writer: {statuses}\n{second.output()}')
  return is_refused


def date_in_the_future(workdir):
  """Gives all files of a run dates of tomorrow."""
  tomorrow = time.time() + 86400
  for path in workdir.rglob('*'):
    with contextlib.suppress(FileNotFoundError):
      os.utime(path, (tomorrow, tomorrow))


def why_impossible(moment):
  """Returns why a moment cannot be had on this machine, or None."""
  if moment != 'full shared memory':
    return None
  pid = os.fork()
  if not pid:
    status = 1
    with contextlib.suppress(OSError):
      machines.fill_shared_memory()
      status = 0
    os._exit(status)
  if os.waitpid(pid, 0)[1]:
    return 'processes may not have a mount namespace of their own'
  return None
