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
from collections.abc import Mapping
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
UNREADABLE = 'a folder or file that cannot be read'


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
  paths: list[str] = []
  passed_over: collections.Counter[str] = collections.Counter()
  seen = set()
  # Folders before links: a folder that is linked too is found by its own name.
  folders: list[str] = [folder]
  links: list[str] = []
  while folders or links:
    here = folders.pop() if folders else links.pop()
    try:
      status = os.stat(here)
      if (status.st_dev, status.st_ino) in seen:
        continue
      seen.add((status.st_dev, status.st_ino))
      entries = sorted(os.scandir(here), key=lambda entry: entry.name)
    except OSError:
      passed_over[UNREADABLE] += 1
      continue
    for entry in reversed(entries):
      if is_hidden(entry.name):
        passed_over[HIDDEN] += 1
      elif os.path.isdir(entry.path):
        (links if entry.is_symlink() else folders).append(entry.path)
      elif reason := why_not_image(entry):
        passed_over[reason] += 1
      else:
        paths.append(entry.path)
  return Found(sorted(paths), passed_over)


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
    return _BROKEN_LINK if entry.is_symlink() else UNREADABLE
  extension = os.path.splitext(entry.name)[1].lower()
  if has_image_extension(entry.name) or extension in _HEIF:
    return None
  if extension in _RAW:
    return _RAW_PHOTO
  try:
    with Image.open(entry.path, formats=_common_formats()):
      return None
  except PermissionError:
    return UNREADABLE
  except Exception:  # plugins raise many types for what is not theirs
    return _OTHER
