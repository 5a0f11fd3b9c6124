"""Access to local files and to Google Cloud Storage buckets (`gs://`).

Three libraries access a bucket: gcsfs (through etils' paths) for files,
TensorStore for Orbax's arrays, and google-cloud-storage for Orbax's requests
about the bucket itself. `check_access` tries all three before a run starts.
"""

import contextlib
import functools
import importlib.util
import os
import queue
import re
import shutil
import threading
import uuid
from collections.abc import Iterator
from logging import CRITICAL, getLogger

from absl import logging
from etils import epath

from convmixer_jax.errors import UserError, one_line

_TIME_LIMIT = 25  # seconds for `check_access`
_RETRY_FOR = 10  # seconds of these for each request
_SILENCE_TIMEOUT = 60  # seconds that gcsfs waits; by default it never gives up
_SECONDS_BETWEEN_WRITES = 10
PARTIAL = '.tmp'  # suffix of a local file while `write` writes it
_ACCESS_CHECK = '.access-check-'
_ROLES = 'Storage Object User and Storage Legacy Bucket Reader'


def absolute_path(path: str) -> epath.Path:
  """Returns an absolute path, as Orbax requires; a `gs://` path is unchanged.

  Raises:
    UserError: the path is empty (as from an unset variable of the shell), is in
      a bucket of another provider, or gcsfs is not installed.
  """
  if not path:
    raise UserError(
      'the name of a directory is empty; give one, such as runs/1'
    )
  if not (match := re.match(r'(\w\w+):/', path)):
    return epath.Path(path).expanduser().resolve()
  if match[1] != 'gs':
    raise UserError(
      f'{path} is neither local nor in a bucket of Google Cloud Storage, such '
      'as gs://BUCKET/NAME; Orbax does not support others'
    )
  if not re.match(r'gs://[^/]+(/|$)', path):
    raise UserError(f'{path} does not name a bucket; give gs://BUCKET/NAME')
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
    UserError: the path is in a bucket.
  """
  if path and '://' in path:
    raise UserError(
      f'{name} {path} is not on this machine; copy the files to it, or mount '
      'the bucket'
    )
  return path


def check_access(path: epath.Path, writes: bool = False) -> None:
  """Checks access to a bucket within half a minute; accepts all local paths.

  The client libraries alone would retry for minutes.

  Args:
    path: a directory or file, which need not exist.
    writes: whether to also write and delete a small file there.

  Raises:
    UserError: the bucket does not exist, access is denied, or there is no
      answer.
  """
  if not is_in_bucket(path):
    return
  outcome = queue.SimpleQueue()

  def probe():
    try:
      _probe(path, writes)
      outcome.put(None)
    except Exception as error:  # three libraries, each with many types
      outcome.put(error)

  threading.Thread(target=probe, daemon=True).start()
  bucket = '/'.join(str(path).split('/', 3)[:3])
  try:
    with _without_stderr():
      error = outcome.get(timeout=_TIME_LIMIT)
  except queue.Empty:
    raise UserError(
      f'{path}: {bucket} did not answer within {_TIME_LIMIT} s; check the '
      'network'
    ) from None
  if error is not None:
    raise UserError(f'{path}: {_explain(error, bucket)}') from error


def is_access_check(name: str) -> bool:
  """Returns whether a file has a name that `check_access` uses."""
  return name.startswith(_ACCESS_CHECK)


def list_files(directory: epath.Path) -> Iterator[str]:
  """Yields the files below `directory` at any depth, relative to it."""
  root = None
  for folder, _, names in directory.walk():
    root = root or folder  # fsspec's paths lack the scheme
    for name in names:
      yield str((folder / name).relative_to(root))


def write(path: epath.Path, content: str | bytes) -> None:
  """Writes a file atomically: an incomplete file never has this name.

  An object in a bucket appears when it is complete; a local file is written
  under a temporary name and renamed.

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
  partial = path.with_name(path.name + PARTIAL)
  try:
    partial.write_bytes(content)
    partial.replace(path)
  except OSError:
    with contextlib.suppress(OSError):
      partial.unlink()
    raise


@contextlib.contextmanager
def directory_in_use(path: str | os.PathLike) -> Iterator[None]:
  """Makes a local directory, and removes it again if it stays empty.

  So do its parents, if they were made, too.

  Raises:
    OSError: it cannot be made.
  """
  made, parent = [], os.path.abspath(path)
  while not os.path.exists(parent):
    made.append(parent)
    parent = os.path.dirname(parent)
  try:
    os.makedirs(path, exist_ok=True)
    yield
  finally:
    with contextlib.suppress(OSError):  # it is not empty, or was not made
      for directory in made:
        os.rmdir(directory)


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


def _probe(path, writes):
  import tensorstore
  from google.cloud import storage
  from google.cloud.storage.retry import DEFAULT_RETRY

  bucket, _, directory = str(path).removeprefix('gs://').partition('/')
  retry = DEFAULT_RETRY.with_timeout(_RETRY_FOR)
  storage.Client().get_bucket(bucket, timeout=_RETRY_FOR, retry=retry)
  name = f'{_ACCESS_CHECK}{uuid.uuid4()}'
  store = tensorstore.KvStore.open(
    {
      'driver': 'gcs',
      'bucket': bucket,
      'path': f'{directory}/'.lstrip('/'),
      'context': {'gcs_request_retries': {'max_retries': 3}},
    }
  ).result()
  store.read(name).result(_RETRY_FOR)
  if not writes:
    path.exists()
    return
  store.write(name, b'').result(_RETRY_FOR)
  try:
    if not (path / name).exists():
      raise OSError('a file that was written there does not exist')
  finally:
    store.write(name, None).result(_RETRY_FOR)  # deletes it


@contextlib.contextmanager
def _without_stderr():
  """Keeps TensorStore from printing where it looked for credentials."""
  stderr = os.dup(2)
  with open(os.devnull, 'w') as devnull:
    os.dup2(devnull.fileno(), 2)
  try:
    yield
  finally:
    os.dup2(stderr, 2)
    os.close(stderr)


def _explain(error, bucket):
  error = getattr(error, 'cause', None) or error  # Google's RetryError
  text = one_line(error)
  kind = type(error).__name__
  if kind in ('DefaultCredentialsError', 'RefreshError'):
    return (
      'there are no valid Google credentials; run gcloud auth '
      f'application-default login ({text})'
    )
  if 'Project was not passed' in text:
    return 'no Google Cloud project is chosen; set GOOGLE_CLOUD_PROJECT'
  if re.match('404|NOT_FOUND', text):
    return f'there is no bucket {bucket}; create it, or correct the name'
  if re.match('40[13]|PERMISSION_DENIED|UNAUTHENTICATED|Forbidden', text):
    return (
      f'access to {bucket} is denied; the account needs the roles {_ROLES} '
      f'({text})'
    )
  return f'{bucket} cannot be reached ({kind}: {text}); check the network'
