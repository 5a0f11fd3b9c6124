"""The loop of a process that does steps on request, for `contender.py`.

Needs only the standard library, so that another Python can import it. Standard
input has a line of JSON with the network and the batch, then lines such as
`first train`, which compiles, and `train 3`; each is answered by a line of
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

# Does as many steps as asked for, and returns when they are done; perhaps with
# a function that returns more of their figures, once the clock has stopped.
Steps = Callable[[int], Callable[[], dict[str, float]] | None]

MATMUL_SIZE = 2048  # of the square matrices that measure the machine


def serve(
  create: Callable[[dict[str, Any]], tuple[dict[str, Steps], dict[str, Any]]],
) -> None:
  """Answers requests until standard input ends.

  The first answer has `about`. That to `first KIND` has `compile`, the seconds
  of the first call less those of the second; `step`, those of the second; and
  `peak`, the highest resident memory in the second call in MiB, libraries and
  all. That to `KIND COUNT` has the seconds taken, `wall` and `cpu`. Both have
  what the steps report. What fails is answered with an `error`.

  Args:
    create: makes the kinds of steps by name, and what is reported of
      them, such as versions, for the `model_shapes.Shape` given as a dict.
  """
  # Whatever a library prints is not to be taken for an answer.
  answers = os.fdopen(os.dup(sys.stdout.fileno()), 'w')
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

  def answer(function, *arguments):
    """Returns what a function does, whose values are answered."""
    try:
      result, values = function(*arguments)
    except Exception as error:  # of whatever library: the others have to go on
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
  _forget_peak()
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


def _forget_peak():
  """Lets compiling not count as memory of a step, where that can be had."""
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
