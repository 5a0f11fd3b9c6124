"""Checks that a bucket can be used, before a command works with it.

Three libraries access a bucket: gcsfs (through etils' paths) for files,
TensorStore for Orbax's arrays, and google-cloud-storage for Orbax's requests
about the bucket itself. All three are tried.
"""

import contextlib
import os
import queue
import re
import threading
import uuid

from etils import epath

from convmixer_jax.errors import UserError, one_line
from convmixer_jax.files import is_in_bucket

_TIME_LIMIT = 25  # seconds for `check_access`
_RETRY_FOR = 10  # seconds of these for each request
_ACCESS_CHECK = '.access-check-'
_ROLES = 'Storage Object User and Storage Legacy Bucket Reader'


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
  outcome: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

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
