"""Finds images of one split that another split has, too, by their content.

Files are equal if their SHA-256 is, under whichever name; a file that is linked
twice is one of them. Only files of the same size are read, in the middle at
first. The work is bounded, so that a run starts within seconds: of large splits
as many images are compared as time allows, evenly spread, and beyond 262,144
images in both splits none is.
"""

import collections
import hashlib
import os
from typing import NamedTuple

from convmixer_jax.data.folders.file_source import FileSource

_MAX_FILES = 2**18  # whose sizes are looked up
_MAX_BYTES = 2**30  # that are read
_OPENING = 2**16  # bytes that are read in the time that opening a file takes
_PROBE = 2**12  # bytes in the middle of a file


class Duplicates(NamedTuple):
  """Images of a split that the training split has, too.

  Attributes:
    num_found: how many.
    compared: how many images of the split were compared.
    example: paths of such an image and of the one in the training split.
  """

  num_found: int
  compared: int
  example: tuple[bytes, bytes] | None


def find_duplicates(train: FileSource, evaluated: FileSource) -> Duplicates:
  """Counts the images of a split whose content is in the training split.

  Args:
    train: the training split.
    evaluated: the split to evaluate on.
  """
  if len(train) + len(evaluated) > _MAX_FILES:
    return Duplicates(0, 0, None)
  reader = _Reader()
  by_size = _group_by_size(train)
  # The digits of a number in reverse: the first ones are evenly spread.
  order = sorted(range(len(evaluated)), key=lambda i: f'{i:08d}'[::-1])
  count, example = 0, None
  probes: dict[int, dict[bytes, list[bytes]]] = {}
  for compared, index in enumerate(order):
    path = evaluated.path(index)
    size = _size(path)
    if size not in by_size:
      continue
    if size not in probes:
      probes[size] = collections.defaultdict(list)
      for number in by_size[size]:
        other = train.path(number)
        probes[size][reader.probe(other, size)].append(other)
        if reader.left < 0:
          return Duplicates(count, compared, example)
    for other in probes[size].get(reader.probe(path, size), ()):
      if reader.digest(path) == reader.digest(other):
        count += 1
        example = example or (path, other)
        break
    if reader.left < 0:
      return Duplicates(count, compared + 1, example)
  return Duplicates(count, len(evaluated), example)


class _Reader:
  """Reads files until a number of bytes is used up.

  Attributes:
    left: bytes that may still be read.
  """

  def __init__(self):
    self.left = _MAX_BYTES
    self._digests: dict[tuple[int, int] | bytes, bytes] = {}

  def probe(self, path: bytes, size: int) -> bytes:
    """Returns a few bytes of a file of this size."""
    self.left -= _OPENING
    try:
      with open(path, 'rb', buffering=0) as file:
        file.seek(max(size - _PROBE, 0) // 2)
        return file.read(_PROBE)
    except OSError:  # which reading the image reports
      return path

  def digest(self, path: bytes) -> bytes:
    """Returns the SHA-256 of a file, which is read once by all its names."""
    try:
      with open(path, 'rb', buffering=0) as file:
        status = os.fstat(file.fileno())
        key = status.st_dev, status.st_ino
        if key not in self._digests:
          self.left -= _OPENING + status.st_size
          self._digests[key] = hashlib.file_digest(file, 'sha256').digest()
        return self._digests[key]
    except OSError:
      return path


def _group_by_size(source: FileSource) -> dict[int, list[int]]:
  groups = collections.defaultdict(list)
  for index in range(len(source)):
    groups[_size(source.path(index))].append(index)
  groups.pop(-1, None)
  return groups


def _size(path: bytes) -> int:
  """Returns the bytes of a file, -1 if it is gone."""
  try:
    return os.stat(path).st_size
  except OSError:
    return -1
