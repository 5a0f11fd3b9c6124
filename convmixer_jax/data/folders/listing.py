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
_LOOP = 'a link to a folder that it is in'


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
  directories: dict[bytes, tuple[int, int]] = {}
  blobs, lengths, ends = [], [], []
  for folder in folders:
    path = os.fsdecode(os.path.join(root, folder))
    names = sorted(_find(path, above, passed_over, directories))
    blobs.append(b''.join(names))
    lengths.append(np.fromiter(map(len, names), np.int64, len(names)))
    ends.append(len(names))
  directories[root] = times_of_change(os.stat(root))
  passed_over.update(_beside_folders(root))
  return Listing(
    root,
    folders,
    np.cumsum(ends, dtype=np.int64),
    np.frombuffer(b''.join(blobs), np.uint8),
    np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths])),
    dict(passed_over),
    directories,
  )


def times_of_change(status: os.stat_result) -> tuple[int, int]:
  """Returns when files of a directory were added or removed, in nanoseconds.

  The second cannot be set by programs that copy directories with their times.
  """
  return status.st_mtime_ns, status.st_ctime_ns


def _find(
  top: str,
  above: set[tuple[int, int]],
  passed_over: collections.Counter[str],
  directories: dict[bytes, tuple[int, int]],
) -> Iterator[bytes]:
  """Yields the paths of the images of a class, relative to its folder."""
  seen = set()
  # Folders before links: a folder that is linked too is found by its own name.
  below, links = [top], list[str]()
  while below or links:
    here = below.pop() if below else links.pop()
    try:
      status = os.stat(here)
      identity = status.st_dev, status.st_ino
      if identity in above:
        passed_over[_LOOP] += 1
        continue
      if identity in seen:
        continue
      seen.add(identity)
      with os.scandir(here) as found:
        entries = list(found)
    except OSError:
      passed_over[image_files.UNREADABLE] += 1
      continue
    directories[os.fsencode(here)] = times_of_change(status)
    # The order decides by which name a folder with several links is found.
    entries.sort(key=lambda entry: entry.name, reverse=True)
    for entry in entries:
      if image_files.is_hidden(entry.name):
        passed_over[image_files.HIDDEN] += 1
      elif _is_folder(entry):
        (links if entry.is_symlink() else below).append(entry.path)
      elif reason := image_files.why_not_image(entry):
        passed_over[reason] += 1
      else:
        yield os.fsencode(entry.path[len(top) + 1 :])


def _beside_folders(root: bytes) -> Iterator[str]:
  """Yields why each entry beside the class folders is passed over."""
  with os.scandir(os.fsdecode(root)) as entries:
    for entry in entries:
      if image_files.is_hidden(entry.name):
        yield image_files.HIDDEN
      elif not _is_folder(entry):
        yield _BESIDE


def _is_folder(entry):
  if entry.is_symlink():
    return os.path.isdir(entry.path)
  return entry.is_dir()


def _identities_above(root: bytes) -> Iterator[tuple[int, int]]:
  """Yields device and inode of a folder and of all that it is in."""
  path = os.path.realpath(root)
  while True:
    status = os.stat(path)
    yield status.st_dev, status.st_ino
    if path == os.path.dirname(path):
      return
    path = os.path.dirname(path)
