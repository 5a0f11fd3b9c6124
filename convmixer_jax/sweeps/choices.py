"""Chooses the value of a row by its trials, once all of them have ended.

What was chosen is in sweep/chosen.json, and stays.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from convmixer_jax.checkpoints.workdir import write_whole
from convmixer_jax.errors import UserError
from convmixer_jax.json_text import parse_json
from convmixer_jax.sweeps.grid import RECORDS, Row
from convmixer_jax.sweeps.plan import Plan, Run
from convmixer_jax.sweeps.progress import Progress

_CHOSEN = 'chosen.json'
_DIVERGED = 'was not finite in'  # of the error that the training loop raises


def has_diverged(error: str) -> bool:
  """Whether a run failed because its loss was not finite, by its error."""
  return _DIVERGED in error


def choose(
  plan: Plan,
  row: Row,
  progress: Mapping[str, Progress],
  errors: Mapping[str, str],
) -> str | None:
  """Chooses the value of a row if its trials have ended, and records it.

  A trial that diverged is worse than any other.

  Args:
    plan: of the sweep; its runs of the row get their configs.
    row: that has a choice, not yet made.
    progress: of each trial, by name.
    errors: of the trials that failed, by name.

  Returns:
    A line on what was chosen; None if trials are missing.

  Raises:
    UserError: all of them diverged, or one did not measure the metric.
  """
  choice = row.choose
  assert choice, row.name
  results = []
  for value in choice.values:
    found = []
    for run in plan.of_row(row, trials=True):
      if run.value != value:
        continue
      if has_diverged(errors.get(run.name, '')):
        found.append(math.nan)
      elif progress[run.name].is_complete:
        found.append(_measured(run, progress[run.name], choice.metric))
      else:
        return None
    results.append(sum(found) / len(found))
  finite = [result for result in results if not math.isnan(result)]
  if not finite:
    raise UserError(
      f'all trials of {row.name} diverged; give the Choice smaller values of '
      f'{choice.key}'
    )
  best = min if 'loss' in choice.metric else max
  index = results.index(best(finite))
  _record(plan, row, index, [None if math.isnan(x) else x for x in results])
  plan.set_chosen(row, choice.values[index])
  return describe_choice(row, index, results)


def describe_choice(row: Row, index: int, results: Sequence[float]) -> str:
  """Returns a line on what a row got, and by which results."""
  assert row.choose, row.name
  compared = ', '.join(
    f'{value}: {"diverged" if math.isnan(result) else f"{result:.4f}"}'
    for value, result in zip(row.choose.values, results, strict=True)
  )
  return (
    f'{row.name}: {row.choose.key} = {row.choose.values[index]} is chosen by '
    f'{row.choose.metric} ({compared})'
    f'{_describe_edge(row.choose.values, index)}'
  )


def _describe_edge(values, index):
  """Returns a warning if the best value may be beyond those that were tried."""
  if len(values) < 2 or not all(type(each) in (int, float) for each in values):
    return ''
  if values[index] == max(values):
    return '; none larger was tried'
  if values[index] == min(values):
    return '; none smaller was tried'
  return ''


def _measured(run: Run, progress: Progress, metric: str) -> float:
  if metric not in progress.metrics:
    raise UserError(
      f'run {run.name} has no {metric} to choose by; give the Choice one of '
      f'{", ".join(progress.metrics)}'
    )
  return progress.metrics[metric]


def restore_choices(plan: Plan) -> None:
  """Completes the rows whose value was chosen at an earlier start.

  Raises:
    UserError: it was chosen among other values, or the record is damaged.
  """
  chosen = read_chosen(plan.workdir)
  for row in plan.rows:
    if row.choose is None or row.name not in chosen:
      continue
    found = chosen[row.name]
    if found['key'] != row.choose.key or found['values'] != _plain(
      row.choose.values
    ):
      raise UserError(
        f'{found["key"]} of {row.name} was chosen among {found["values"]}, and '
        f'the sweep has {row.choose.key} among {list(row.choose.values)}; give '
        'the old values or a new --workdir'
      )
    plan.set_chosen(row, row.choose.values[found['index']])


def read_chosen(workdir: epath.Path) -> dict[str, dict[str, Any]]:
  """Returns what was chosen by name of the row; see `record_choice`."""
  path = workdir / RECORDS / _CHOSEN
  if not path.exists():
    return {}
  try:
    found = parse_json(path.read_text())
    for each in found.values():
      each['values'][each['index']], each['key'], each['results']
    return found
  except (AttributeError, LookupError, TypeError, ValueError) as error:
    raise UserError(
      f'{path} is damaged ({type(error).__name__}: {error}); remove it, and '
      'what it has is found again from the trials'
    ) from error


def _record(
  plan: Plan, row: Row, index: int, results: Sequence[float | None]
) -> None:
  """Writes which value a row got, and by which results.

  Args:
    plan: of the sweep.
    row: of it.
    index: of the value that was chosen.
    results: mean over the trials of each value; None where they diverged.
  """
  assert row.choose, row.name
  chosen = read_chosen(plan.workdir)
  chosen[row.name] = {
    'key': row.choose.key,
    'values': _plain(row.choose.values),
    'results': list(results),
    'index': index,
    'chosen': _plain(row.choose.values)[index],
    'metric': row.choose.metric,
  }
  write_whole(
    plan.workdir / RECORDS / _CHOSEN, json.dumps(chosen, indent=2) + '\n'
  )


def _plain(values):
  return json.loads(json.dumps(list(values)))
