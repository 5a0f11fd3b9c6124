"""The table of a sweep that runs: states, results, time that is left."""

import shutil
import sys
from collections.abc import Sequence

from convmixer_jax.sweeps.entry import Entry
from convmixer_jax.sweeps.runner import Runner
from convmixer_jax.training.tasks import task_of

_REST = 4  # lines of a terminal that the table leaves


def duration(seconds: float) -> str:
  """Returns a time in words of two digits, such as '1.5 h'."""
  if seconds < 90:
    return f'{seconds:.0f} s'
  if seconds < 5400:
    return f'{seconds / 60:.0f} min'
  return f'{seconds / 3600:.1f} h'


def seconds_left(entries: Sequence[Entry], jobs: int) -> float | None:
  """Returns the time until all runs are complete; None if nothing is known.

  A run of unknown length takes as long as those of its row, else as the mean
  of all.

  Args:
    entries: of all runs.
    jobs: how many run at the same time.
  """
  known = {
    (entry.run.row.name, entry.run.is_trial): seconds
    for entry in entries
    if (seconds := entry.total_seconds()) is not None
  }
  if not known:
    return None
  mean = sum(known.values()) / len(known)
  left = []
  for entry in entries:
    if entry.is_open:
      key = entry.run.row.name, entry.run.is_trial
      seconds = entry.total_seconds() or known.get(key, mean)
      left.append(seconds * (1 - entry.progress.share))
  if not left:
    return 0.0
  return max(sum(left) / min(jobs, len(left)), max(left))


def format_table(
  entries: Sequence[Entry], limit: int | None = None
) -> list[str]:
  """Returns the lines of the table.

  Args:
    entries: of all runs.
    limit: number of lines, if that is limited; then runs that wait, and runs
      that are complete, are left out first.
  """
  shown = list(entries)
  if limit is not None and len(shown) > limit:
    order = {'training': 0, 'failed': 1, 'not chosen': 1, 'in use': 1}
    ranks = sorted(
      range(len(shown)), key=lambda i: (order.get(shown[i].state, 2), i)
    )
    shown = [shown[i] for i in sorted(ranks[: max(limit, 1)])]
  configs = [e.run.config for e in entries if e.run.config is not None]
  metric = task_of(configs[0]).main_metric
  rows = [('run', 'state', 'done', metric, 'time left')]
  rows += [_cells(entry, metric) for entry in shown]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    '  '.join(
      cell.ljust(width) if i < 2 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
  if len(shown) < len(entries):
    lines.append(f'... and {len(entries) - len(shown)} more')
  return lines


def _cells(entry, metric):
  result = entry.progress.metrics.get(metric)
  left = ''
  if entry.is_open and (seconds := entry.total_seconds()):
    left = duration(seconds * (1 - entry.progress.share))
  return (
    entry.run.name,
    entry.state,
    f'{entry.progress.share:.0%}',
    '' if result is None else f'{result:.4f}',
    left,
  )


def summary(runner: Runner, jobs: int) -> str:
  """Returns how many runs are in which state, and the time that is left."""
  entries = list(runner.entries.values())
  counts: dict[str, int] = {}
  for entry in entries:
    counts[entry.state] = counts.get(entry.state, 0) + 1
  text = ', '.join(f'{number} {state}' for state, number in counts.items())
  left = seconds_left(entries, jobs)
  if left:
    text += f'; about {duration(left)} left'
  return f'{len(entries)} runs: {text}'


class Table:
  """Shows a sweep: redrawn on a terminal, elsewhere a line for each event."""

  def __init__(self, jobs: int):
    """Shows nothing yet.

    Args:
      jobs: how many runs there are at the same time.
    """
    self._jobs = jobs
    self._is_terminal = sys.stdout.isatty()
    self._drawn: list[str] = []

  def __call__(self, runner: Runner, line: str) -> None:
    """Shows how far the sweep is, after a line on what happened, if any."""
    if not self._is_terminal:
      if line:
        print(f'{line} [{summary(runner, self._jobs)}]', flush=True)
      return
    size = shutil.get_terminal_size()
    entries = list(runner.entries.values())
    lines = format_table(entries, size.lines - _REST)
    lines.append(summary(runner, self._jobs))
    lines = [text[: size.columns - 1] for text in lines]
    if not line and lines == self._drawn:
      return
    self.clear()
    if line:
      print(line)
    print('\n'.join(lines), flush=True)
    self._drawn = lines

  def clear(self) -> None:
    """Removes the table from the terminal."""
    if self._drawn:
      print(f'\x1b[{len(self._drawn)}A\x1b[J', end='')
      self._drawn = []
