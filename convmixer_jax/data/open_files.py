"""Reads data sets that have more files than a process may have open.

ImageNet has 1,024 files to train on, and 1,024 open files are a usual limit.
"""

import bisect
import itertools
import threading
from collections.abc import Sequence
from typing import Any

from convmixer_jax import limits
from convmixer_jax.notes import note

_RESERVE = 256  # of Python, XLA and checkpoints


def keep_few_files_open(records: Any, split: Any) -> None:
  """Makes a data source open a file for each record, if it has too many.

  First raises the limit as far as the shell or container allows.

  Args:
    records: TFDS's data source, which opens each file at its first record, and
      keeps it open.
    split: TFDS's description of the split.
  """
  files = split.file_instructions
  limit = limits.raise_open_files()
  share = (limit - _RESERVE) // 2  # a run reads two splits
  if len(files) <= share:
    return
  note(
    f'{len(files):,} files are opened for each record, which is slower, since '
    f'only {limit:,} may be open; raise the limit: ulimit -n, in Docker '
    '--ulimit nofile=65536',
    'open files',
  )
  records.data_source = _OpenedForEachRecord(files)


class _OpenedForEachRecord:
  """The records of array_record files, opened for each."""

  def __init__(self, files: Sequence[Any]):
    """Opens nothing.

    Args:
      files: of TFDS, each with `filename`, `skip` and `take`.
    """
    self._files = [(str(f.filename), f.skip) for f in files]
    self._ends = list(itertools.accumulate(f.take for f in files))
    self._make_lock()

  def __len__(self) -> int:
    return self._ends[-1]

  def __getitem__(self, index: int) -> bytes:
    from array_record.python import array_record_module

    number = bisect.bisect_right(self._ends, index)
    path, skip = self._files[number]
    start = self._ends[number - 1] if number else 0
    with self._few_at_a_time:
      reader = array_record_module.ArrayRecordReader(
        path,
        options='readahead_buffer_size:0',
        file_reader_buffer_size=2**15,
      )
      try:
        (record,) = reader.read([skip + index - start])
      finally:
        reader.close()
    return record

  def _make_lock(self):
    self._few_at_a_time = threading.BoundedSemaphore(16)

  def __getstate__(self):
    return {k: v for k, v in vars(self).items() if k != '_few_at_a_time'}

  def __setstate__(self, state):
    vars(self).update(state)
    self._make_lock()
