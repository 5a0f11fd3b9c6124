"""What the programs that time depthwise convolutions share.

Needs only the standard library, so that another Python can import it.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from convmixer_jax.benchmarks.error_line import describe

PRODUCTS = ('forward', 'kernel gradient', 'input gradient')
# Inputs that are gone through in turn. The smallest measured on GPUs are of 33
# MB, each with an output as large: together several times a cache of 50 MB.
BUFFERS = 4
TURNS = 3
_MOST_CALLS = 100


def count_calls(seconds: float, turn_seconds: float) -> int:
  """Returns how many calls, of `seconds` each, make a turn."""
  return min(max(round(turn_seconds / max(seconds, 1e-9)), 1), _MOST_CALLS)


def time_all(
  request: dict[str, Any], measure: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
  """Yields a row for each case; one that raises an error has `failed`.

  Args:
    request: has the `cases`, and the `deadline`, the `time.monotonic()` after
      which no other case is begun.
    measure: returns the figures of a case, such as its `microseconds`.
  """
  for case in request['cases']:
    row = {'case': case['case']}
    if time.monotonic() > request['deadline']:
      yield row | {'missing': 'no time was left'}
      continue
    try:
      figures = measure(case)
    except Exception as error:  # of any library: the others still count
      yield row | {'failed': describe(error)}
      continue
    rate = case['least_bytes'] / figures['microseconds'] / 1e3
    yield row | figures | {'gb_per_sec': rate}
