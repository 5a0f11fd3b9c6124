"""Helpers for tests of the benchmark of a device."""

import contextlib
import dataclasses
import pathlib
import sys
import time
from collections.abc import Iterator

from convmixer_jax.benchmarks.benchmark_cases import create_convmixer_case
from convmixer_jax.benchmarks.device.budget import Budget
from convmixer_jax.benchmarks.device.rows import Rows
from convmixer_jax.benchmarks.device.session import Session
from convmixer_jax.benchmarks.device.settings import QUICK

TINY = create_convmixer_case(
  8, 2, 3, 3, num_classes=5, image_size=12, batch_size=2
)

# Starts a process in a new session, prints both ids, and hangs.
HANGS = """
import json, os, subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, '-c', 'import time; time.sleep(600)'],
    start_new_session=True)
print(json.dumps({'about': {}, 'ids': [os.getpid(), child.pid]}), flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def create_session(directory: pathlib.Path) -> Iterator[Session]:
  """Yields a session with hours, on a CPU, for one tiny network."""
  stages = 'correctness', 'depthwise', 'models', 'cifar10'
  budget = Budget(40_000.0, dict.fromkeys(stages, 1))
  with (
    contextlib.closing(Rows(directory / 'rows.jsonl', budget.used)) as rows,
    (directory / 'log.txt').open('wb') as log,
  ):
    yield Session(
      settings=dataclasses.replace(
        QUICK,
        networks={'tiny': TINY},
        min_seconds=0.0,
        min_process_seconds=0.0,
      ),
      rows=rows,
      budget=budget,
      directory=directory,
      scratch=directory,
      log=log,
      torch_python=sys.executable,
      cifar10=None,
      data_dir=None,
      platform='cpu',
    )


class Clock:
  """Stands for `time` in a module, and can be put forward."""

  def __init__(self):
    self.ahead = 0.0

  def monotonic(self) -> float:
    return time.monotonic() + self.ahead


def python(script: str) -> list[str]:
  """Returns the command that runs a script."""
  return [sys.executable, '-c', script]


def wait_until_dead(pids: list[int]) -> None:
  """Waits up to ten minutes until all processes have ended."""
  deadline = time.monotonic() + 600
  while any(map(is_alive, pids)):
    assert time.monotonic() < deadline
    time.sleep(0.05)


def is_alive(pid: int) -> bool:
  """Returns whether a process exists and is not a zombie."""
  try:
    state = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2]
  except FileNotFoundError:
    return False
  return state.split()[0] != 'Z'
