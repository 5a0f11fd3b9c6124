"""Timing of depthwise convolutions, shared by the programs for JAX and PyTorch.

Needs only the standard library, so that another Python can import it.
"""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from convmixer_jax.benchmarks.error_line import describe

PRODUCTS = ('forward', 'kernel gradient', 'input gradient')
# Number of inputs, used in turn. The smallest measured on GPUs has 33 MB, and
# so has its output: together several times a cache of 50 MB.
BUFFERS = 4
_TURNS = 3
_SLOW_SECONDS = 5e-3
_MAX_CALLS = 100
_CUDA_ERROR = re.compile('CUDA_ERROR|CUDA error')


def count_calls(seconds: float, turn_seconds: float) -> int:
  """Returns the number of calls in a turn, if each takes `seconds`."""
  return min(max(round(turn_seconds / max(seconds, 1e-9)), 1), _MAX_CALLS)


def count_turns(seconds: float) -> int:
  """Returns the number of turns: one, if a call takes `seconds`, and many."""
  return 1 if seconds > _SLOW_SECONDS else _TURNS


def time_all(
  request: dict[str, Any], measure: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
  """Yields a row for each case; one that raises an error has `failed`.

  After an error of CUDA it ends: `run_cases` starts another program for the
  cases that remain.

  Args:
    request: has the `cases`, and the `deadline`, the `time.monotonic()` after
      which no other case is started.
    measure: returns the values of a case, such as its `microseconds`.
  """
  for case in request['cases']:
    row = {'case': case['case']}
    if time.monotonic() > request['deadline']:
      yield row | {'missing': 'no time was left'}
      continue
    try:
      values = measure(case)
    except Exception as error:  # from any library; the other cases continue
      yield row | {'failed': describe(error)}
      if _CUDA_ERROR.search(str(error)):  # persists in this process
        return
      continue
    rate = case['min_bytes'] / values['microseconds'] / 1e3
    yield row | values | {'gb_per_sec': rate}
