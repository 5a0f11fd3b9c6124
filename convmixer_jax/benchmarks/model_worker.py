"""The loop of a process that runs steps on request, for `BenchmarkProcess`.

Needs only the standard library, so that another Python can import it. Standard
input has a line of JSON with the network and the batch, then lines such as
`first train`, which compiles, and `train 3`. The answer to each is a line of
JSON.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from convmixer_jax.benchmarks.error_line import describe

# Runs the given number of steps. May return a function that computes further
# values of the steps, which is called after the time has been taken.
Steps = Callable[[int], Callable[[], dict[str, float]] | None]

MATMUL_SIZE = 2048  # side of the matrices whose product measures the machine


def serve(
  create: Callable[[dict[str, Any]], tuple[dict[str, Steps], dict[str, Any]]],
) -> None:
  """Answers requests until standard input ends.

  The first answer has `about`. That to `first KIND` has `compile`, the seconds
  of the first call minus those of the second; `step`, the seconds of the second
  call; and `peak`, the peak resident memory of the process during the second
  call in MiB. That to `KIND COUNT` has the seconds `wall` and `cpu`. Both have
  the values that the steps report. The answer to a failure is an `error`.

  Args:
    create: takes the request of a `benchmark_process.BenchmarkProcess`, the
      fields of a `benchmark_cases.BenchmarkCase` and more; returns the
      kinds of steps by name, and `about`, such as versions.
  """
  # Output of libraries must not be mistaken for an answer.
  answers = os.fdopen(os.dup(sys.stdout.fileno()), 'w')
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

  def answer(function, *arguments):
    """Calls a function, prints its values and returns its result."""
    try:
      result, values = function(*arguments)
    except Exception as error:  # from any library; other steps may still work
      result, values = None, {'error': describe(error)}
    print(json.dumps(values), file=answers, flush=True)
    return result

  def start():
    kinds, about = create(json.loads(sys.stdin.readline()))
    return kinds, {'about': about}

  def work(line):
    name, argument = line.split()
    if name == 'first':
      return None, _first_steps(kinds[argument])
    return None, _time(kinds[name], int(argument))

  kinds = answer(start)
  for line in sys.stdin if kinds else ():
    answer(work, line)


def _first_steps(steps):
  first = _time(steps, 1)
  _reset_peak()
  second = _time(steps, 1)
  return second | {
    'compile': max(first['wall'] - second['wall'], 0.0),
    'step': second['wall'],
    'peak': _peak(),
  }


def _time(steps, count):
  wall, cpu = time.perf_counter(), time.process_time()
  report = steps(count)
  seconds = {
    'wall': time.perf_counter() - wall,
    'cpu': time.process_time() - cpu,
  }
  return (report() if report else {}) | seconds


def _reset_peak():
  """Resets the peak memory after compilation, where the system supports it."""
  try:
    with open('/proc/self/clear_refs', 'w') as file:
      file.write('5')
  except OSError:  # not Linux
    pass


def _peak():
  try:
    with open('/proc/self/status') as file:
      values = dict(line.split(':', 1) for line in file)
    return int(values['VmHWM'].split()[0]) / 1024
  except OSError:
    unit = 2**20 if sys.platform == 'darwin' else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
