"""Disturbs a run repeatedly, and compares it with an undisturbed one.

    python scripts/torture.py --rounds=100 --directory=DIR

A small network is trained on digits in two processes. In each round, SIGKILL
kills one or both of them at a random time: while they start, between two
checkpoints, or while a checkpoint is written. Then the same command is run
again. Sometimes the fault is a SIGTERM or SIGINT to one of the processes, after
which both must save and exit with the status of a preemption. Other faults: a
worker process that makes batches is killed; the same command is started a
second time, and must be refused; /dev/shm is full; the clock is set back, so
that files have dates of the future. A finished run is compared with an
undisturbed one: the last state bit for bit, and `metrics.csv` line by line
except for the speeds. Then the next run starts.

With `--directory` the rounds are kept in DIR/results.jsonl, and the same
command makes those that are left.
"""

import argparse
import collections
import csv
import json
import operator
import pathlib
import random
import shutil
import sys
import tempfile

import jax
import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'support')]
from run_files import SPEED, read_state  # noqa: E402
from torture_jobs import (  # noqa: E402
  NUM_STEPS,
  Failure,
  Job,
  date_in_the_future,
  disturb,
  why_impossible,
)

WEIGHTS = {  # of the moments
  'start': 4,
  'steps': 6,
  'checkpoint': 8,
  'preemption': 2,
  'worker': 3,
  'second writer': 3,
  'full shared memory': 3,
  'clock': 3,
}


def read_lines(workdir):
  """Returns the rows of metrics.csv as text, without the speeds."""
  with open(workdir / 'metrics.csv', newline='') as file:
    return [
      {name: text for name, text in row.items() if name not in SPEED}
      for row in csv.DictReader(file)
    ]


def has_ended(workdir):
  """Returns whether a run has its last checkpoint."""
  return (workdir / 'checkpoints' / str(NUM_STEPS)).exists()


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


def torture(moments, seed, directory):
  """Causes a fault at each of `moments`; returns the number of differences."""
  results = directory / 'results.jsonl'
  for log in directory.glob('*.txt'):  # jobs would add to them
    log.unlink()
  undisturbed = directory / 'undisturbed'
  kept = results.read_text().splitlines() if results.exists() else []
  kept = [json.loads(line) for line in kept]
  faults = [line for line in kept if 'fault' in line]
  compared = len(kept) - len(faults)
  differences = sum(line.get('differences', 0) for line in kept)
  counts = collections.Counter(line['moment'] for line in faults)
  counts['checkpoint half written'] = sum(
    'half written' in line['fault'] for line in faults
  )
  done, rounds = len(faults), len(moments)
  if not kept or not has_ended(undisturbed):
    shutil.rmtree(undisturbed, ignore_errors=True)
    Job(undisturbed).finish()

  def keep(**line):
    with open(results, 'a') as file:
      file.write(json.dumps(line) + '\n')

  while done < rounds or not compared:
    workdir = directory / f'run{compared}'
    moment = moments[done] if done < rounds else None
    if reason := why_impossible(moment):
      print(f'round {done + 1}: {moment} is skipped: {reason}')
      moment = 'steps'
    rng = random.Random(f'{seed} {done}')
    if moment == 'clock':
      date_in_the_future(workdir)
    job = Job(workdir, moment)
    fault = None
    if moment:
      fault = disturb(job, rng, moment)
    if fault:
      keep(moment=moment, fault=fault)
      done += 1
      counts[moment] += 1
      counts['checkpoint half written'] += 'half written' in fault
      steps = read_lines(workdir) if job.rows() else []
      at = steps[-1]['step'] if steps else 0
      print(f'round {done}: {moment}, step {at}: {fault}', flush=True)
      continue
    job.finish()
    found = compare(workdir, undisturbed)
    differences += found
    compared += 1
    keep(differences=found)
    print(f'run {compared} has ended: differences {found}', flush=True)
    shutil.rmtree(workdir)
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
    choices=WEIGHTS,
    help='time of the fault of each round; default: random',
  )
  parser.add_argument(
    '--directory',
    type=pathlib.Path,
    help='directory of runs and results; default: a temporary one',
  )
  arguments = parser.parse_args()
  moments = random.Random(arguments.seed).choices(
    list(WEIGHTS), WEIGHTS.values(), k=arguments.rounds
  )
  moments = arguments.moments or moments
  with tempfile.TemporaryDirectory() as scratch:
    directory = arguments.directory or pathlib.Path(scratch)
    directory.mkdir(parents=True, exist_ok=True)
    differences = torture(moments, arguments.seed, directory.resolve())
  sys.exit(differences > 0)


if __name__ == '__main__':
  main()
