"""Keeps the listings of large directories of images in the cache.

A listing is used again while all directories that it was read from are as they
were: adding or removing a file changes the times of its directory. Where the
cache cannot be read or written, the directories are read.
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Sequence

import numpy as np
from etils import epath

from convmixer_jax import files
from convmixer_jax.data.folders.listing import (
  Listing,
  list_images,
  times_of_change,
)

_VERSION = 1  # of the files
_MIN_FILES = 20_000  # fewer are read about as fast
# Two changes within a tick of the clock give a directory the same time.
_SETTLED_SECONDS = 2


def open_listing(root: bytes, folders: Sequence[bytes]) -> Listing:
  """Returns the images of class folders, from the cache if nothing changed.

  Args:
    root: of the split.
    folders: names of the class folders, in the order of the classes.
  """
  path = _path(root)
  folders = tuple(folders)
  listing = _read(path, root, folders)
  if listing is not None:
    return listing
  started = time.time()
  listing = list_images(root, folders)
  newest = max(max(times) for times in listing.directories.values()) / 1e9
  if len(listing) >= _MIN_FILES and newest < started - _SETTLED_SECONDS:
    _write(path, listing)
  return listing


def _path(root: bytes) -> epath.Path:
  from convmixer_jax.cache import cache_dir  # imports JAX

  name = hashlib.sha256(os.path.realpath(root)).hexdigest()[:32]
  return epath.Path(cache_dir()) / 'folders' / f'{name}.npz'


def _read(
  path: epath.Path, root: bytes, folders: tuple[bytes, ...]
) -> Listing | None:
  """Returns a listing that still holds, or None."""
  try:
    with open(path, 'rb') as file, np.load(file, allow_pickle=False) as stored:
      about = json.loads(stored['about'].tobytes())
      if about['version'] != _VERSION:
        return None
      if [_text(name) for name in folders] != about['folders']:
        return None
      directories = {
        os.path.join(root, _bytes(name)): tuple(times)
        for name, times in about['directories'].items()
      }
      if any(
        times_of_change(os.stat(directory)) != times
        for directory, times in directories.items()
      ):
        return None
      return Listing(
        root,
        folders,
        stored['ends'],
        stored['names'],
        stored['name_ends'],
        about['passed_over'],
        directories,
      )
  except Exception:  # absent, damaged, or a directory is gone
    return None


def _write(path: epath.Path, listing: Listing) -> None:
  about = {
    'version': _VERSION,
    'folders': [_text(name) for name in listing.folders],
    'passed_over': listing.passed_over,
    'directories': {
      _text(os.path.relpath(directory, listing.root)): times
      for directory, times in listing.directories.items()
    },
  }
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(
      content,
      about=np.frombuffer(json.dumps(about).encode(), np.uint8),
      ends=listing.ends,
      names=listing.names,
      name_ends=listing.name_ends,
    )
    files.write(path, content.getvalue(), is_shared=True)
  except OSError:  # full, or read-only
    return


def _text(name: bytes) -> str:
  """Returns any bytes as a string that JSON can hold."""
  return name.decode('latin-1')


def _bytes(text: str) -> bytes:
  return text.encode('latin-1')
