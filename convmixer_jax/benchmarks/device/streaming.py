"""The side of a process that answers one request with rows.

Needs only the standard library, so that another Python can import it.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from convmixer_jax.benchmarks.error_line import describe


def serve(
  work: Callable[[dict[str, Any]], Iterator[dict[str, Any]]],
) -> None:
  """Reads a line of JSON from standard input, and prints what `work` yields.

  Each row is a line of JSON, printed when it exists; the last is `done`. What
  fails is an `error`.
  """
  # What a library prints must not be mistaken for a row.
  answers = os.fdopen(os.dup(sys.stdout.fileno()), 'w')
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

  def answer(values):
    print(json.dumps(values), file=answers, flush=True)

  try:
    for row in work(json.loads(sys.stdin.readline())):
      answer(row)
    answer({'done': True})
  except Exception as error:  # of whatever library
    answer({'error': describe(error)})
