"""Lists the image files of class folders in a few compact arrays.

ImageNet's 1.28 million files take about 45 MB, which a worker process gets as
they are. A class has the images at any depth of its folder; what counts as one
is the rule of `image_files`. Links are followed, but not to a folder that the
class is in.
"""

import collections
import dataclasses
import os
from collections.abc import Iterator, Mapping

import numpy as np

from convmixer_jax.data import image_files

_BESIDE = 'beside the class folders'


@dataclasses.dataclass(frozen=True)
class Listing:
  """The image files of a split, those of each class together.

  Attributes:
    root: of the split.
    folders: name of each class folder, in the order of the classes.
    ends: int64 `[C]`, where the images of each class end.
    names: uint8, paths of all files relative to their class folder, joined.
    name_ends: int64 `[N]`, where each of these ends.
    passed_over: number of the other files and folders, by reason.
    directories: all that were read, each with `times_of_change`.
  """

  root: bytes
  folders: tuple[bytes, ...]
  ends: np.ndarray
  names: np.ndarray
  name_ends: np.ndarray
  passed_over: Mapping[str, int]
  directories: Mapping[bytes, tuple[int, int]]

  def __len__(self) -> int:
    return len(self.name_ends)

  @property
  def counts(self) -> np.ndarray:
    """Returns int64 `[C]`, the number of images of each class."""
    return np.diff(self.ends, prepend=0)

  def class_of(self, index: int) -> int:
    """Returns the number of the class folder of an image."""
    return int(np.searchsorted(self.ends, index, side='right'))

  def name(self, index: int) -> bytes:
    """Returns the path of an image, relative to its class folder."""
    start = self.name_ends[index - 1] if index else 0
    return self.names[start : self.name_ends[index]].tobytes()

  def path(self, index: int) -> bytes:
    """Returns the path of an image."""
    folder = self.folders[self.class_of(index)]
    return b'/'.join((self.root, folder, self.name(index)))


def list_images(root: bytes, folders: tuple[bytes, ...]) -> Listing:
  """Reads the class folders of a split.

  Args:
    root: of the split.
    folders: names of the class folders, in the order of the classes.
  """
  above = set(_identities_above(root))
  passed_over: collections.Counter[str] = collections.Counter()
  directories: dict[str, os.stat_result] = {}
  blobs, lengths, ends = [], [], []
  for folder in folders:
    path = os.fsdecode(os.path.join(root, folder))
    found = image_files.walk(path, passed_over, directories, above)
    names = sorted(os.fsencode(file[len(path) + 1 :]) for file in found)
    blobs.append(b''.join(names))
    lengths.append(np.fromiter(map(len, names), np.int64, len(names)))
    ends.append(len(names))
  directories[os.fsdecode(root)] = os.stat(root)
  passed_over.update(_beside_folders(root))
  return Listing(
    root,
    folders,
    np.cumsum(ends, dtype=np.int64),
    np.frombuffer(b''.join(blobs), np.uint8),
    np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths])),
    dict(passed_over),
    {os.fsencode(k): times_of_change(v) for k, v in directories.items()},
  )


def times_of_change(status: os.stat_result) -> tuple[int, int]:
  """Returns when files of a directory were added or removed, in nanoseconds.

  The second cannot be set by programs that copy directories with their times.
  """
  return status.st_mtime_ns, status.st_ctime_ns


def _beside_folders(root: bytes) -> Iterator[str]:
  """Yields why each entry beside the class folders is passed over."""
  with os.scandir(os.fsdecode(root)) as entries:
    for entry in entries:
      if image_files.is_hidden(entry.name):
        yield image_files.HIDDEN
      elif not image_files.is_folder(entry):
        yield _BESIDE


def _identities_above(root: bytes) -> Iterator[tuple[int, int]]:
  """Yields device and inode of a folder and of all that it is in."""
  path = os.path.realpath(root)
  while True:
    status = os.stat(path)
    yield status.st_dev, status.st_ino
    if path == os.path.dirname(path):
      return
    path = os.path.dirname(path)
