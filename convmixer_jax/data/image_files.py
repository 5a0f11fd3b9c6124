"""Finds the image files in folders: whatever Pillow decodes, no hidden files.

A file counts if its extension is of a format that Pillow decodes, in upper or
lower case; with another extension, or none, if its content begins like one of
the common formats. Hidden files and folders (`._photo.jpg` of macOS,
`.ipynb_checkpoints`) are left out. Links to folders are followed; each folder
is searched once.
"""

import collections
import functools
import os
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from PIL import Image

from convmixer_jax.data.decode import NOT_DECODED

# Photographs that need another program: they are found, so that the error of
# decoding names them. Of a raw photograph Pillow would decode the thumbnail.
_HEIF = frozenset(('.heic', '.heif', '.hif'))
_RAW = frozenset(
  ('.arw', '.cr2', '.cr3', '.dng', '.nef', '.nrw', '.orf', '.pef', '.raf')
  + ('.rw2', '.srw')
)
_COMMON = (
  *('AVIF', 'BMP', 'GIF', 'JPEG', 'JPEG2000', 'MPO', 'PNG', 'TIFF', 'WEBP'),
)
HIDDEN = 'hidden'
_NPY = '.npy'  # arrays, which Pillow does not know
_OTHER = 'not an image'
_RAW_PHOTO = 'a raw photograph, which has to be converted to JPEG'
_BROKEN_LINK = 'a link to nothing'
_LOOP = 'a link to a folder that it is in'
_UNREADABLE = 'a folder or file that cannot be read'


class Found(NamedTuple):
  """The image files of a folder.

  Attributes:
    paths: of the files, sorted.
    passed_over: number of the other files and folders, by reason.
  """

  paths: list[str]
  passed_over: Mapping[str, int]


def find_in_folder(folder: str) -> Found:
  """Returns the image files at any depth of a folder."""
  passed_over: collections.Counter[str] = collections.Counter()
  return Found(sorted(walk(folder, passed_over)), passed_over)


def walk(
  top: str,
  passed_over: collections.Counter[str],
  directories: dict[str, os.stat_result] | None = None,
  above: Collection[tuple[int, int]] = (),
) -> Iterator[str]:
  """Yields the paths of the image files at any depth of a folder.

  Args:
    top: the folder.
    passed_over: in which the other files and folders are counted, by reason.
    directories: to which those that are read are added, with their status.
    above: device and inode of folders that links are not followed to.
  """
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
      passed_over[_UNREADABLE] += 1
      continue
    if directories is not None:
      directories[here] = status
    # The order decides by which name a folder with several links is found.
    entries.sort(key=lambda entry: entry.name, reverse=True)
    for entry in entries:
      if is_hidden(entry.name):
        passed_over[HIDDEN] += 1
      elif is_folder(entry):
        (links if entry.is_symlink() else below).append(entry.path)
      elif reason := why_not_image(entry):
        passed_over[reason] += 1
      else:
        yield entry.path


def is_folder(entry: os.DirEntry) -> bool:
  """Returns whether it is a folder, or a link to one."""
  if entry.is_symlink():
    return os.path.isdir(entry.path)
  try:
    return entry.is_dir()  # asks few file systems
  except OSError:
    return False


def is_hidden(path: str) -> bool:
  """Returns whether a part of a relative path is hidden, as `._a.jpg` is."""
  parts = path.split('/')
  return any(
    part == '__MACOSX' or (part.startswith('.') and part.strip('.'))
    for part in parts
  )


def has_image_extension(name: str) -> bool:
  """Returns whether a name ends as that of an image, such as '.JPG'."""
  return os.path.splitext(name)[1].lower() in _extensions()


@functools.cache
def _extensions():
  known = Image.registered_extensions()
  return {_NPY} | {
    extension.lower()
    for extension, name in known.items()
    if name in Image.OPEN and name not in NOT_DECODED
  }


@functools.cache
def _common_formats():
  Image.init()
  return tuple(name for name in _COMMON if name in Image.OPEN)


def as_utf8(path: str) -> str:
  r"""Returns a path that can be printed: bytes other than UTF-8 as '\xff'."""
  return os.fsencode(path).decode('utf-8', 'backslashreplace')


def display_name(path: str) -> str:
  """Returns a path as one printable line: control characters are escaped."""
  return ''.join(
    c if c.isprintable() else ascii(c)[1:-1] for c in as_utf8(path)
  )


def describe(passed_over: Mapping[str, int]) -> str:
  """Returns the files that were passed over in words, such as '2 hidden'."""
  return ', '.join(
    f'{count:,} {reason}' for reason, count in sorted(passed_over.items())
  )


def why_not_image(entry: os.DirEntry) -> str | None:
  """Returns why a file is not taken for an image, or None if it is."""
  try:
    if not entry.is_file():  # asks the file system about links only
      entry.stat()
      return _OTHER
  except OSError:
    return _BROKEN_LINK if entry.is_symlink() else _UNREADABLE
  extension = os.path.splitext(entry.name)[1].lower()
  if has_image_extension(entry.name) or extension in _HEIF:
    return None
  if extension in _RAW:
    return _RAW_PHOTO
  try:
    with Image.open(entry.path, formats=_common_formats()):
      return None
  except PermissionError:
    return _UNREADABLE
  except Exception:  # plugins raise many types for what is not theirs
    return _OTHER
