"""The main loop of a program that answers one request with rows.

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
  """Reads a request from standard input, and prints the rows of `work`.

  The request and each row are a line of JSON. A row is printed immediately; the
  last one is `done`, or `error` after a failure.
  """
  # Output of libraries must not be mistaken for a row.
  answers = os.fdopen(os.dup(sys.stdout.fileno()), 'w')
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

  def answer(values):
    print(json.dumps(values), file=answers, flush=True)

  try:
    for row in work(json.loads(sys.stdin.readline())):
      answer(row)
    answer({'done': True})
  except Exception as error:  # from any library
    answer({'error': describe(error)})
