"""Compares the speed of two checkouts of this project, in one run.

    python scripts/compare_checkouts.py BEFORE_DIRECTORY [AFTER_DIRECTORY]

Each has a process of `benchmarks.jax_model_worker`; they work in turns, and the
order changes from round to round. Printed are the medians over rounds and the
median of the ratios, after over before. A checkout's processes take the memory
settings that its commands would set, from $GLIBC_TUNABLES.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

MODULE = 'convmixer_jax.benchmarks.jax_model_worker'
ROOT = pathlib.Path(__file__).parents[1]
# Prints the case of a checkout, as its worker takes it: ConvMixer-256/8 for
# CIFAR-10.
PRINT_CASE = """
import dataclasses, json
from convmixer_jax.benchmarks.benchmark_cases import CASES
print(json.dumps(dataclasses.asdict(CASES['256/8'])))
"""
STEPS = {'forward': 8, 'train': 1}  # in a turn


def start(directory: str) -> subprocess.Popen:
  """Starts the worker of a checkout."""
  return subprocess.Popen(
    [sys.executable, '-m', MODULE, 'project'],
    cwd=directory,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )


def find_case(directory: str) -> str:
  """Returns the network and the batch to measure, in JSON."""
  return subprocess.run(
    [sys.executable, '-c', PRINT_CASE],
    cwd=directory,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  ).stdout.strip()


def ask(worker: subprocess.Popen, line: str) -> dict:
  """Sends a request, and returns the answer."""
  worker.stdin.write(f'{line}\n')
  worker.stdin.flush()
  return json.loads(worker.stdout.readline())


def main() -> None:
  """Measures, and prints a line for each kind of step."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('before')
  parser.add_argument('after', nargs='?', default=str(ROOT))
  parser.add_argument('--rounds', type=int, default=31)
  arguments = parser.parse_args()
  directories = [arguments.before, arguments.after]
  workers = [start(directory) for directory in directories]
  for worker, directory in zip(workers, directories, strict=True):
    ask(worker, find_case(directory))
  for kind in STEPS:
    answers = [ask(worker, f'first {kind}') for worker in workers]
    if kind == 'train':
      losses = [answer['loss'] for answer in answers]
      print(f'loss of the second step, before and after: {losses}')
  for kind, count in STEPS.items():
    seconds = [[], []]
    for number in range(arguments.rounds):
      for i in (0, 1) if number % 2 else (1, 0):
        answer = ask(workers[i], f'{kind} {count}')
        seconds[i].append(answer['wall'] / count)
    before, after = map(statistics.median, seconds)
    ratios = [b / a for a, b in zip(*seconds, strict=True)]
    print(
      f'{kind}: {1e3 * before:.1f} ms before, {1e3 * after:.1f} ms after; '
      f'median of {len(ratios)} ratios {statistics.median(ratios):.3f} '
      f'({min(ratios):.3f} to {max(ratios):.3f})'
    )
  for worker in workers:
    worker.stdin.close()
    worker.wait()


if __name__ == '__main__':
  main()
