"""Access to local files and to Google Cloud Storage buckets (`gs://`).

Files in a bucket are read and written by gcsfs, through etils' paths.
"""

import contextlib
import functools
import importlib.util
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from logging import CRITICAL, getLogger

from absl import logging
from etils import epath

from convmixer_jax import path_names
from convmixer_jax.errors import UserError, one_line

_SILENCE_TIMEOUT = 60  # seconds that gcsfs waits; by default it never gives up
_SECONDS_BETWEEN_WRITES = 10
PARTIAL = '.tmp'  # suffix of a local file while `write` writes it

path_names.read_directories_literally()


def absolute_path(path: str | os.PathLike[str]) -> epath.Path:
  """Returns an absolute path, as Orbax requires; a `gs://` path is unchanged.

  Raises:
    UserError: it is not a path, is empty (as from an unset variable of the
      shell), is in a bucket of another provider, has a name that a library
      would take for something else, or gcsfs is not installed.
  """
  if not isinstance(path, (str, os.PathLike)):
    raise UserError(
      f'the name of a directory is {path!r}, a {type(path).__name__}; give a '
      'string or a path, such as runs/1'
    )
  path = os.fspath(path)
  if not path:
    raise UserError(
      'the name of a directory is empty; give one, such as runs/1'
    )
  if not (match := re.match(r'(\w\w+):/', path)):
    local = os.path.abspath(os.path.expanduser(path))
    path_names.check_local(local)
    return epath.Path(local)
  if match[1] != 'gs':
    raise UserError(
      f'{path} is neither local nor in a bucket of Google Cloud Storage, such '
      'as gs://BUCKET/NAME; Orbax does not support others'
    )
  if not re.match(r'gs://[^/]+(/|$)', path):
    raise UserError(f'{path} does not name a bucket; give gs://BUCKET/NAME')
  path_names.check_bucket(path)
  if importlib.util.find_spec('gcsfs') is None:
    raise UserError(
      f"{path} needs gcsfs; install it: pip install 'convmixer-jax[gcs]', or, "
      "in a checkout, pip install '.[gcs]'"
    )
  _configure_clients()
  return epath.Path(path)


def is_in_bucket(path: epath.Path) -> bool:
  """Returns whether `path` is in a bucket."""
  return str(path).startswith('gs://')


def require_local(path: str | None, name: str) -> str | None:
  """Returns `path` if it is not in a bucket.

  Args:
    path: a path given by the user.
    name: name of the flag or config key, for the error message.

  Raises:
    UserError: the path is in a bucket, or has a name that a library would take
      for one.
  """
  if path and '://' in path:
    raise UserError(
      f'{name} {path} is not on this machine; copy the files to it, or mount '
      'the bucket'
    )
  if path:
    path_names.check_local(os.path.abspath(os.path.expanduser(path)))
  return path


def file_size(path: epath.Path) -> int:
  """Returns the bytes of a file, whoever owns it.

  `path.stat()` also looks up the owner's name, which a user id in a container
  may not have.
  """
  return path.stat().length if is_in_bucket(path) else os.path.getsize(path)


def list_files(directory: epath.Path) -> Iterator[str]:
  """Yields the files below `directory` at any depth, relative to it."""
  root = None
  for folder, _, names in directory.walk():
    root = root or folder  # fsspec's paths lack the scheme
    for name in names:
      yield str((folder / name).relative_to(root))


def write(
  path: epath.Path, content: str | bytes, is_shared: bool = False
) -> None:
  """Writes a file atomically: an incomplete file never has this name.

  An object in a bucket appears when it is complete; a local file is written
  under a temporary name and renamed.

  Args:
    path: of the file.
    content: of it.
    is_shared: whether another process may write the same file at this time;
      the last one wins. Only then killed processes may leave several
      temporary files.

  Raises:
    OSError: the file cannot be written.
  """
  content = content.encode() if isinstance(content, str) else content
  if is_in_bucket(path):
    try:
      path.write_bytes(content)
    except Exception as error:  # from gcsfs, aiohttp or google-auth
      raise OSError(one_line(error)) from error
    return
  own = f'.{uuid.uuid4().hex[:8]}' if is_shared else ''
  partial = path.with_name(f'{path.name}{own}{PARTIAL}')
  try:
    partial.write_bytes(content)
    partial.replace(path)
  except OSError:
    with contextlib.suppress(OSError):
      partial.unlink()
    raise


def seconds_between_writes(path: epath.Path) -> float:
  """Returns the seconds to wait before the same file is written again.

  Google limits writes of an object to one per second, and each write takes the
  caller a tenth of a second.
  """
  return _SECONDS_BETWEEN_WRITES if is_in_bucket(path) else 0.0


def download(path: epath.Path, directory: str) -> str:
  """Copies a file from a bucket, for libraries that read local files only.

  Args:
    path: path of the file.
    directory: an existing local directory.

  Returns:
    The path of the copy.
  """
  copy = os.path.join(directory, path.name)
  with path.open('rb') as source, open(copy, 'wb') as target:
    shutil.copyfileobj(source, target, 2**24)
  return copy


@functools.cache
def _configure_clients() -> None:
  """Configures the client libraries, before their first use."""
  # Otherwise gcsfs asks for the type of the bucket by gRPC whenever it opens a
  # file, and some networks block gRPC.
  os.environ.setdefault('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')
  if emulator := os.environ.get('STORAGE_EMULATOR_HOST'):
    os.environ.setdefault('TENSORSTORE_GCS_HTTP_URL', emulator)
  if logging.get_verbosity() < logging.INFO:  # not with --debug
    # They log each retry.
    for name in ('fsspec', 'gcsfs', 'google', 'urllib3'):
      getLogger(name).setLevel(CRITICAL)
  import aiohttp
  import fsspec

  fsspec.config.conf.setdefault('gs', {}).update(
    use_listings_cache=False,  # other processes change the directories
    requests_timeout=aiohttp.ClientTimeout(
      sock_connect=_SILENCE_TIMEOUT, sock_read=_SILENCE_TIMEOUT
    ),
  )
