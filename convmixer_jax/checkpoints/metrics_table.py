"""`metrics.csv`: one row for each step at which something was measured."""

import csv
import io
import time

from absl import logging
from etils import epath

from convmixer_jax import files
from convmixer_jax.checkpoints.workdir import write_whole
from convmixer_jax.errors import UserError


class MetricsTable:
  """A table of numbers by step, kept in memory and on disk.

  The whole file is replaced each time (see `write_whole`); in a bucket, only
  every few seconds.
  """

  def __init__(self, path: epath.Path, columns: list[str], last_step: int):
    """Opens the table, without the rows after `last_step`.

    Args:
      path: of the CSV file, which need not exist.
      columns: names, after `step`.
      last_step: the step that the run resumes from.
    """
    self._path = path
    self._columns = ['step', *columns]
    self._rows = {
      step: row for step, row in read_table(path).items() if step <= last_step
    }
    self._next_store = 0.0
    self._is_stored = True

  def rows(self) -> list[dict[str, float]]:
    """Returns the rows, in the order they were written."""
    return list(self._rows.values())

  def write(self, step: int, values: dict[str, float]) -> None:
    """Adds values to the row of `step`, and soon the row to the file."""
    row = self._rows.setdefault(step, {'step': step})
    row.update(values)
    self._is_stored = False
    if time.monotonic() < self._next_store:
      return
    try:
      self.store()
    except UserError as error:
      if not files.is_in_bucket(self._path):
        raise
      # Tried again later, at the latest before a checkpoint.
      logging.warning('%s', error)
      self._next_store = time.monotonic() + files.seconds_between_writes(
        self._path
      )

  def store(self) -> None:
    """Writes the file, unless it already has all rows.

    Raises:
      UserError: it cannot be written.
    """
    if self._is_stored:
      return
    text = io.StringIO()
    writer = csv.DictWriter(text, self._columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(self._rows.values())
    write_whole(self._path, text.getvalue())
    self._is_stored = True
    self._next_store = time.monotonic() + files.seconds_between_writes(
      self._path
    )


def read_table(path: epath.Path) -> dict[int, dict[str, float]]:
  """Returns the rows by step; a row lacks the columns it has no value for.

  Raises:
    UserError: the file is not such a table.
  """
  if not path.exists():
    return {}
  try:
    rows = csv.DictReader(io.StringIO(path.read_text()))
    return {
      int(row['step']): {'step': int(row['step'])}
      | {k: float(v) for k, v in row.items() if k != 'step' and v}
      for row in rows
    }
  except (LookupError, OSError, TypeError, ValueError) as error:
    raise UserError(
      f'{path} is not a table of metrics ({type(error).__name__}: {error}); '
      'correct it, or move it away'
    ) from error
