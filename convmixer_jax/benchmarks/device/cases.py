"""Has a program answer cases, and leaves none of them without a row."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from convmixer_jax.benchmarks.device.session import Session

# A case that was begun is to end before the process is killed.
_SECONDS_OF_A_COMPILATION = 10.0


@dataclasses.dataclass(frozen=True)
class Case:
  """One thing that a program measures or compares.

  Attributes:
    names: what its rows have, so that one knows which it is.
    request: what the program needs to know.
  """

  names: dict[str, Any]
  request: dict[str, Any]


def run_cases(
  session: Session,
  stage: str,
  command: Sequence[str],
  request: Mapping[str, Any],
  cases: Sequence[Case],
  seconds: float,
  environment: Mapping[str, str] | None = None,
) -> None:
  """Adds rows for all cases: figures, or why a case `failed` or is `missing`.

  The program may stop after any case, and may crash: another process does the
  rest. That of two that crash without an answer fails with them.

  Args:
    session: the run.
    stage: of the rows.
    command: the program. It is sent the request with two more fields: `cases`,
      each with its `request` and its number as `case`; and `deadline`, the
      `time.monotonic()` after which it is to begin no other. Its rows have the
      number as `case`.
    request: what can be written as JSON.
    cases: in their order.
    seconds: for all of them, after which the program is killed.
    environment: variables to set besides those of this process.
  """
  end = time.monotonic() + seconds
  left = list(range(len(cases)))
  crashed_at_once = False

  def add(numbers, **values):
    for number in numbers:
      session.rows.add(stage, **cases[number].names | values)

  while left:
    remaining = end - time.monotonic()
    if remaining < session.settings.least_seconds:
      add(left, missing='no time was left')
      return
    answered = set()

    def receive(row, answered=answered):
      number = row.pop('case')
      answered.add(number)
      add([number], **row)

    allowance = min(_SECONDS_OF_A_COMPILATION, remaining / 4)
    numbered = [cases[number].request | {'case': number} for number in left]
    limits = {'cases': numbered, 'deadline': end - allowance}
    error = None
    try:
      session.stream(
        command, {**request, **limits}, remaining, receive, environment
      )
    except TimeoutError as reason:
      add([n for n in left if n not in answered], missing=str(reason))
      return
    except (OSError, ValueError) as reason:
      error = str(reason)
    left = [number for number in left if number not in answered]
    if not answered and not error:
      error = 'it ended without an answer'
    if not error or not left:
      continue
    if not answered and crashed_at_once:
      add(left, failed=error)
      return
    add(left[:1], failed=error)
    left, crashed_at_once = left[1:], not answered
