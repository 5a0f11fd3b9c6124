"""Makes a directory, and removes it again if nothing was written to it."""

import contextlib
import os
from collections.abc import Iterator

from etils import epath

from convmixer_jax.files import is_in_bucket


@contextlib.contextmanager
def made_directory(path: epath.Path) -> Iterator[None]:
  """Makes a directory for the `with` block, unless it exists.

  If it is empty at the end, it is removed, and so are its parents that were
  made for it. In a bucket there are no empty directories.

  Raises:
    OSError: it cannot be made.
  """
  if is_in_bucket(path):
    path.mkdir(parents=True, exist_ok=True)
    yield
    return
  made, parent = [], os.path.abspath(path)
  while not os.path.exists(parent):
    made.append(parent)
    parent = os.path.dirname(parent)
  try:
    os.makedirs(path, exist_ok=True)
    yield
  finally:
    for directory in made:
      with contextlib.suppress(OSError):  # it is not empty, or was not made
        os.rmdir(directory)
