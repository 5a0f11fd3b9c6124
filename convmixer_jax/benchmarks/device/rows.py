"""The results of a run as rows, in memory and in a file."""

import contextlib
import json
import math
import os
import pathlib
import threading
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


class Rows:
  """A list of rows; each is on disk when `add` returns.

  Attributes:
    all: the rows, oldest first. Each has its `stage`, and as `at` the seconds
      since the start of the run.
  """

  def __init__(self, path: pathlib.Path, clock: Callable[[], float]):
    """Creates the file, which must not exist.

    Args:
      path: path of the file, which gets a line of JSON for each row.
      clock: returns the seconds since the start of the run.
    """
    self.all: list[Row] = []
    self._clock = clock
    self._lock = threading.Lock()  # stages may run at the same time
    self._file = path.open('x')

  def add(self, stage: str, **values: Any) -> None:
    """Adds and prints a row; numbers that are not finite become None."""
    with self._lock:
      at = round(self._clock(), 1)
      row = _without_nan({'stage': stage, 'at': at, **values})
      self.all.append(row)
      text = json.dumps(row, allow_nan=False)
      self._file.write(text + '\n')
      self._file.flush()
      os.fsync(self._file.fileno())
    with contextlib.suppress(OSError):  # the reader may have closed the pipe
      print(text, flush=True)

  def select(self, stage: str, *keys: str) -> list[Row]:
    """Returns the rows of a stage that have all given keys."""
    return [
      row
      for row in self.all
      if row['stage'] == stage and all(key in row for key in keys)
    ]

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def _without_nan(value):
  """Replaces numbers that are not finite by None, since JSON has none."""
  if isinstance(value, dict):
    return {key: _without_nan(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_without_nan(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
