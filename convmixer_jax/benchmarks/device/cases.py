"""Runs cases in programs, so that every case gets a row."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from convmixer_jax.benchmarks.device.session import Session

# A case that was started should end before the process is killed.
_COMPILATION_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Case:
  """One measurement or comparison by a program.

  Attributes:
    names: fields that identify the case in its rows.
    request: fields that the program needs.
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
  """Adds rows for all cases: values, or why a case `failed` or is `missing`.

  The program may stop after any case, and may crash: a new process runs the
  remaining cases. If two processes in a row crash without an answer, all
  remaining cases fail.

  Args:
    session: the run.
    stage: stage of the rows.
    command: the program. It receives the request with two more fields: `cases`,
      each with its `request` and its number as `case`; and `deadline`, the
      `time.monotonic()` after which it must not start another case. Its rows
      have the number as `case`.
    request: fields common to all cases, for JSON.
    cases: the cases, in their order.
    seconds: time for all cases, after which the program is killed.
    environment: variables to add to those of this process.
  """
  end = time.monotonic() + seconds
  left = list(range(len(cases)))
  crashed_at_once = False

  def add(numbers, **values):
    for number in numbers:
      session.rows.add(stage, **cases[number].names | values)

  while left:
    remaining = end - time.monotonic()
    if remaining < session.settings.min_seconds:
      add(left, missing='no time was left')
      return
    answered: set[int] = set()

    def receive(row, answered=answered):
      number = row.pop('case')
      answered.add(number)
      add([number], **row)

    allowance = min(_COMPILATION_SECONDS, remaining / 4)
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
