"""Kills a run repeatedly, and compares it with an undisturbed one.

    python scripts/torture.py --rounds=100

A small network is trained on digits in two processes. In each round, SIGKILL
kills one or both of them at a random time: while they start, between two
checkpoints, or while a checkpoint is written. Then the same command is run
again. Sometimes the fault is a SIGTERM or SIGINT to one of the processes, after
which both must save and exit with the status of a preemption. A finished run is
compared with an undisturbed one: the last state bit for bit, and `metrics.csv`
line by line except for the speeds. Then the next run starts.
"""

import argparse
import collections
import csv
import operator
import os
import pathlib
import random
import signal
import sys
import tempfile
import time

import jax
import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'support')]
import jobs  # noqa: E402
from run_files import SPEED, read_state  # noqa: E402

NUM_STEPS = 60
FLAGS = [
  '--config=configs/digits.py',
  f'--config.num_steps={NUM_STEPS}',  # an epoch is 22
  '--config.batch_size=64',
  '--config.model.width=8',
  '--config.model.depth=1',
  '--config.model.kernel_size=3',
  '--config.mixup.mixup_alpha=0.5',
  '--config.mixup.group_size=8',
  '--config.eval_every_epochs=1',
  '--config.log_every_steps=3',
  '--config.checkpoint_every_steps=4',
  '--config.input.num_threads=2',
]

MOMENTS = ('start', 'steps', 'checkpoint', 'preemption')
WEIGHTS = (2, 3, 4, 1)
PREEMPTED = 75  # the exit status
EXITS_WITHIN = 3  # seconds for the process that was not killed
POLL = 0.02  # seconds


class Failure(Exception):
  """The run does not behave as specified."""


class Job(jobs.Job):
  """Two processes of one run."""

  def __init__(self, workdir):
    super().__init__(workdir, FLAGS, num_processes=2)

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


def read_lines(workdir):
  """Returns the rows of metrics.csv as text, without the speeds."""
  with open(workdir / 'metrics.csv', newline='') as file:
    return [
      {name: text for name, text in row.items() if name not in SPEED}
      for row in csv.DictReader(file)
    ]


def compare(workdir, undisturbed):
  """Returns the number of arrays and rows that differ.

  Raises:
    Failure: a step is missing or repeated.
  """
  found = read_state(workdir, NUM_STEPS)
  expected = read_state(undisturbed, NUM_STEPS)
  same = jax.tree.map(np.array_equal, found, expected)
  differences = sum(not equal for equal in jax.tree.leaves(same))
  found, expected = read_lines(workdir), read_lines(undisturbed)
  steps = [row['step'] for row in found]
  if steps != [row['step'] for row in expected]:
    raise Failure(f'a step is missing or repeated: {steps}')
  return differences + sum(map(operator.ne, found, expected))


def disturb(job, rng, moment):
  """Causes a fault; returns its description, or None if the run had ended."""
  if moment == 'start':
    time.sleep(rng.uniform(0, 8))
  elif moment == 'checkpoint':
    if not job.wait_for_new(job.unfinished, rng.randint(1, 3)):
      return None
    time.sleep(rng.uniform(0, 0.3))
  else:
    if not job.wait_for_new(job.rows, rng.randint(1, 5)):
      return None
    time.sleep(rng.uniform(0, 1))
  if job.has_ended():
    return None
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


def torture(moments, rng, directory):
  """Causes a fault at each of `moments`; returns the number of differences."""
  undisturbed = directory / 'undisturbed'
  Job(undisturbed).finish()
  compared = differences = done = 0
  counts = collections.Counter()
  rounds = len(moments)
  while True:
    workdir = directory / f'run{compared}'
    job = Job(workdir)
    fault = None
    if done < rounds:
      fault = disturb(job, rng, moments[done])
    if fault:
      done += 1
      counts[moments[done - 1]] += 1
      counts['checkpoint half written'] += 'half written' in fault
      steps = read_lines(workdir) if job.rows() else []
      at = steps[-1]['step'] if steps else 0
      print(
        f'round {done}: {moments[done - 1]}, step {at}: {fault}', flush=True
      )
      continue
    job.finish()
    found = compare(workdir, undisturbed)
    differences += found
    compared += 1
    print(f'run {compared} has ended: differences {found}', flush=True)
    if done == rounds:
      break
  print(f'rounds: {rounds}')
  print(f'faults survived: {done} ({dict(counts)})')
  print(f'runs compared: {compared}')
  print(f'differences: {differences}')
  return differences


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    '--rounds', type=int, default=10, help='number of faults; default: 10'
  )
  parser.add_argument(
    '--seed', type=int, default=0, help='seed of the faults; default: 0'
  )
  parser.add_argument(
    '--moments',
    nargs='+',
    choices=MOMENTS,
    help='time of the fault of each round; default: random',
  )
  arguments = parser.parse_args()
  rng = random.Random(arguments.seed)
  moments = rng.choices(MOMENTS, WEIGHTS, k=arguments.rounds)
  with tempfile.TemporaryDirectory() as directory:
    differences = torture(
      arguments.moments or moments, rng, pathlib.Path(directory)
    )
  sys.exit(differences > 0)


if __name__ == '__main__':
  main()
