"""What a run has measured so far: in memory, and on disk at once."""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


class Rows:
  """A list of rows, each of which is on disk when `add` returns.

  Attributes:
    all: the rows, oldest first. Each has its `stage`, and `at`, the seconds
      from the start of the run.
  """

  def __init__(self, path: pathlib.Path, clock: Callable[[], float]):
    """Creates the file, which is emptied if it is there.

    Args:
      path: of a file with a line of JSON for each row.
      clock: returns the seconds from the start of the run.
    """
    self.all: list[Row] = []
    self._clock = clock
    self._file = path.open('w')

  def add(self, stage: str, **values: Any) -> None:
    """Adds a row, and prints it."""
    row = {'stage': stage, 'at': round(self._clock(), 1), **values}
    self.all.append(row)
    text = json.dumps(row)
    print(text, flush=True)
    self._file.write(text + '\n')
    self._file.flush()
    os.fsync(self._file.fileno())

  def of(self, stage: str, *keys: str) -> list[Row]:
    """Returns the rows of a stage that have all these keys."""
    return [
      row
      for row in self.all
      if row['stage'] == stage and all(key in row for key in keys)
    ]

  def close(self) -> None:
    """Closes the file."""
    self._file.close()
