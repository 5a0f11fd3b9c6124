"""A small file that one process creates, and others see: local or in a bucket.

Creation, replacement and deletion are atomic, and conditional on what was read:
of two processes that try the same, one succeeds.
"""

import contextlib
import errno
import functools
import hashlib
import os
import pathlib
import uuid
from typing import Any, Protocol

from etils import epath

from convmixer_jax import files

_CLAIM = '.claim-'  # of a replacement, between the name and a hash
_TIME_LIMIT = 10  # seconds for one refresh of an object


class LockFile(Protocol):
  """A file with a version, which each change of its content changes."""

  def read(self) -> tuple[bytes, str] | None:
    """Returns content and version, or None if there is no file."""
    ...

  def create(self, content: bytes) -> bool:
    """Creates the file; returns False if there is one."""
    ...

  def replace(self, content: bytes, version: str) -> bool:
    """Replaces it; returns False unless it still has this version."""
    ...

  def refresh(self, content: bytes) -> None:
    """Replaces what this process has created, if that is still there.

    Raises:
      OSError: it is not, or cannot be reached.
    """
    ...

  def delete(self) -> None:
    """Deletes what this process has created, if that is still there."""
    ...


class LocalFile:
  """In a directory, which may be shared between hosts.

  The version is the first line. `refresh` writes to the file that was opened,
  so one that has been replaced stays as it is.
  """

  def __init__(self, path: epath.Path):
    """Opens nothing yet."""
    self._path = pathlib.Path(path)
    self._descriptor: int | None = None

  def read(self) -> tuple[bytes, str] | None:
    """See LockFile."""
    try:
      content = self._path.read_bytes()
    except FileNotFoundError:
      return None
    return content, _first_line(content)

  def create(self, content: bytes) -> bool:
    """See LockFile."""
    with self._written(content) as new:
      try:
        os.link(new, self._path)  # with its content, also on NFS
      except FileExistsError:
        if os.stat(new).st_nlink != 2:  # else NFS made the link, and again
          return False
      except OSError:  # a file system without links
        try:
          descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        except FileExistsError:
          return False
        os.write(descriptor, content)
        self._descriptor = descriptor
        return True
      self._descriptor = os.open(self._path, os.O_RDWR)
    return True

  def replace(self, content: bytes, version: str) -> bool:
    """See LockFile."""
    digest = hashlib.sha256(version.encode()).hexdigest()[:16]  # of any text
    claim = self._path.with_name(f'{self._path.name}{_CLAIM}{digest}')
    try:
      os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
    except FileExistsError:  # another process does the same, or was killed
      with contextlib.suppress(FileNotFoundError):
        claim.unlink()
      return False
    try:
      found = self.read()
      if found is None or found[1] != version:
        return False
      with self._written(content) as new:
        os.replace(new, self._path)
        self._descriptor = os.open(self._path, os.O_RDWR)
    finally:
      with contextlib.suppress(FileNotFoundError):
        claim.unlink()
    found = self.read()
    return found is not None and found[1] == _first_line(content)

  def refresh(self, content: bytes) -> None:
    """See LockFile."""
    if self._descriptor is None or not self._is_own():
      raise FileNotFoundError(f'{self._path} is not of this process')
    os.pwrite(self._descriptor, content, 0)
    os.fsync(self._descriptor)

  def delete(self) -> None:
    """See LockFile."""
    if self._is_own():
      self._path.unlink()
    if self._descriptor is not None:
      os.close(self._descriptor)
      self._descriptor = None

  def _is_own(self):
    try:
      there = os.stat(self._path)
      return os.path.samestat(there, os.fstat(self._descriptor))
    except TypeError:  # nothing was created
      return False
    except OSError as error:
      # NFS reports the second one of a file that another host has replaced.
      if error.errno in (errno.ENOENT, errno.ESTALE):
        return False
      raise

  @contextlib.contextmanager
  def _written(self, content):
    path = self._path.with_name(f'{self._path.name}.{uuid.uuid4().hex[:8]}')
    path.write_bytes(content)
    try:
      yield path
    finally:
      with contextlib.suppress(FileNotFoundError):
        path.unlink()


class BucketFile:
  """An object in a bucket; the version is its generation.

  The first line says whose it is, as in a `LocalFile`.
  """

  def __init__(self, path: epath.Path):
    """Makes no request yet."""
    bucket, _, self._name = str(path).removeprefix('gs://').partition('/')
    self._bucket_name = bucket
    self._generation: int | None = None

  def read(self) -> tuple[bytes, str] | None:
    """See LockFile."""
    from google.api_core import exceptions

    blob = self._blob()
    try:
      content = blob.download_as_bytes()
    except exceptions.NotFound:
      return None
    return content, str(blob.generation)

  def create(self, content: bytes) -> bool:
    """See LockFile."""
    return self._upload(content, 0)

  def replace(self, content: bytes, version: str) -> bool:
    """See LockFile."""
    return self._upload(content, int(version))

  def refresh(self, content: bytes) -> None:
    """See LockFile."""
    try:
      is_own = self._upload(
        content, self._generation, timeout=_TIME_LIMIT, retry=None
      )
    except Exception as error:  # of the client library, of many types
      raise OSError(f'{type(error).__name__}: {error}') from error
    if not is_own:
      raise FileNotFoundError(f'{self._name} is not of this process')

  def delete(self) -> None:
    """See LockFile."""
    from google.api_core import exceptions

    found = self.read()
    if found is None or found[1] != str(self._generation):
      return
    gone = exceptions.NotFound, exceptions.PreconditionFailed
    with contextlib.suppress(*gone):
      self._blob().delete(if_generation_match=self._generation)

  @functools.cached_property
  def _bucket(self) -> Any:
    from google.cloud import storage

    return storage.Client().bucket(self._bucket_name)

  def _blob(self) -> Any:
    return self._bucket.blob(self._name)

  def _upload(self, content, generation, **options):
    from google.api_core import exceptions

    blob = self._blob()
    try:
      blob.upload_from_string(
        content, if_generation_match=generation, **options
      )
    except (exceptions.PreconditionFailed, exceptions.NotFound):
      # It may have been written before, and the answer was lost.
      found = self.read()
      if found is None or _first_line(found[0]) != _first_line(content):
        return False
      self._generation = int(found[1])
      return True
    self._generation = blob.generation
    return True


def open_lock_file(path: epath.Path) -> LockFile:
  """Returns the lock file at a path, which need not exist."""
  return BucketFile(path) if files.is_in_bucket(path) else LocalFile(path)


def _first_line(content: bytes) -> str:
  return content.partition(b'\n')[0].decode(errors='replace')
