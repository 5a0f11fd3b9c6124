"""Which buckets are refused before a run starts, and who reads the others."""

import contextlib
import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading

import buckets
import commands
import pytest

pytestmark = buckets.marks()

ROOT = pathlib.Path(__file__).parents[1]


@contextlib.contextmanager
def answer_with_status(status):
  """Answers every request with an error."""

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      content = json.dumps({'error': {'code': status, 'message': 'No.'}})
      self.send_response(status)
      self.send_header('Content-Length', str(len(content)))
      self.end_headers()
      self.wfile.write(content.encode())

    def log_message(self, *_):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
    threading.Thread(target=server.serve_forever).start()
    yield server.server_address[1]
    server.shutdown()


@contextlib.contextmanager
def accept_and_never_answer():
  """Takes connections, as a firewall does that drops what it is sent."""
  with socket.create_server(('127.0.0.1', 0)) as server:
    yield server.getsockname()[1]


@contextlib.contextmanager
def refuse_connections():
  with socket.socket() as reserved:  # but nothing listens
    reserved.bind(('127.0.0.1', 0))
    yield reserved.getsockname()[1]


@pytest.mark.parametrize(
  ('serve', 'message'),
  [
    (
      lambda: answer_with_status(404),
      'there is no bucket gs://bucket; create it, or correct the name',
    ),
    (
      lambda: answer_with_status(403),
      'access to gs://bucket is denied; the account needs the roles Storage ',
    ),
    (refuse_connections, 'gs://bucket cannot be reached (ConnectionError: '),
    (accept_and_never_answer, 'gs://bucket '),
  ],
  ids=['missing', 'forbidden', 'refused', 'silent'],
)
@pytest.mark.parametrize('tool', ['train', 'evaluate'])
def test_unusable_bucket_is_refused_in_one_line(serve, message, tool):
  arguments = {
    'train': [
      'train.py',
      '--config=configs/digits.py',
      '--workdir=gs://bucket/run',
    ],
    'evaluate': ['convmixer_jax', 'evaluate', '--source=gs://bucket/run'],
  }[tool]
  with serve() as port:
    done = commands.run(
      arguments,
      {'STORAGE_EMULATOR_HOST': f'http://127.0.0.1:{port}'},
    )
  assert (done.returncode, done.stdout) == (1, '')
  assert done.stderr.startswith(f'error: gs://bucket/run: {message}')
  assert done.stderr.count('\n') == 1


def test_bucket_that_tensorstore_cannot_reach_is_refused_in_one_line():
  """TensorStore has a client of its own."""
  with buckets.serve() as bucket, accept_and_never_answer() as port:
    done = commands.run(
      ['train.py', '--config=configs/digits.py', '--workdir=gs://bucket/run'],
      bucket.environment
      | {'TENSORSTORE_GCS_HTTP_URL': f'http://127.0.0.1:{port}'},
    )
    assert bucket.names() == []
  assert (done.returncode, done.stdout) == (1, '')
  assert done.stderr.startswith('error: gs://bucket/run: gs://bucket cannot be')
  assert done.stderr.count('\n') == 1


def test_installed_tensorflow_is_not_imported(tmp_path):
  (tmp_path / 'tensorflow.py').write_text('raise SystemExit("imported")')
  code = """
from convmixer_jax import files
path = files.absolute_path('gs://bucket/beside-tensorflow')
files.write(path, 'text')
print(path.read_text())
"""
  paths = os.pathsep.join([str(tmp_path), str(ROOT)])
  with buckets.serve() as bucket:
    done = subprocess.run(
      [sys.executable, '-c', code],
      env=os.environ | bucket.environment | {'PYTHONPATH': paths},
      capture_output=True,
      text=True,
      check=False,
    )
  assert (done.returncode, done.stdout) == (0, 'text\n'), done.stderr
