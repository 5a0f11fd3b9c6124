"""A small server that takes uploads and serves files as the hub does."""

import base64
import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator

from huggingface_hub import constants

TOKEN = 'hf_of_the_test'
_SHA = '1234567890' * 4


class FakeHub:
  """Repositories in memory.

  Attributes:
    address: of the server.
    files: contents by name, of each repository by OWNER/NAME.
    private: the repositories that are private.
    commits: the message of each commit.
    requests: method and path of each request.
    refused: status of each path that is refused, by the path's beginning.
  """

  def __init__(self, address: str):
    """Begins without repositories."""
    self.address = address
    self.files: dict[str, dict[str, bytes]] = {}
    self.private: set[str] = set()
    self.commits: list[str] = []
    self.requests: list[str] = []
    self.refused: dict[str, int] = {}
    self.objects: dict[str, bytes] = {}

  def get(self, path: str) -> tuple[int, bytes]:
    """Answers a file, or information on a repository."""
    parts = path.strip('/').split('/')
    if path.startswith('/api/models/'):
      name = '/'.join(parts[2:4])
      if name not in self.files:
        return 404, b'RepoNotFound'
      info = {'id': name, 'sha': _SHA, 'private': name in self.private}
      return 200, json.dumps(info | {'siblings': []}).encode()
    name, file = '/'.join(parts[:2]), '/'.join(parts[4:])
    if name not in self.files:
      return 404, b'RepoNotFound'
    if file not in self.files[name]:
      return 404, b'EntryNotFound'
    return 200, self.files[name][file]

  def post(self, path: str, body: bytes) -> tuple[int, bytes]:
    """Makes repositories and commits."""
    parts = path.strip('/').split('/')
    name = '/'.join(parts[2:4])
    if path == '/api/validate-yaml':
      return 200, b'{"errors": [], "warnings": []}'
    if path == '/api/repos/create':
      asked = json.loads(body)
      name = f'{asked["organization"]}/{asked["name"]}'
      page = json.dumps({'url': f'{self.address}/{name}'}).encode()
      if name in self.files:
        return 409, page
      self.files[name] = {}
      if 'private' in (
        asked.get('visibility'),
        asked.get('private') and 'private',
      ):
        self.private.add(name)
      return 200, page
    if '/preupload/' in path:
      answer = [
        {
          'path': file['path'],
          'uploadMode': 'lfs'
          if file['path'].endswith('.safetensors')
          else 'regular',
          'shouldIgnore': False,
        }
        for file in json.loads(body)['files']
      ]
      return 200, json.dumps({'files': answer}).encode()
    if path.endswith('/info/lfs/objects/batch'):
      objects = [
        {
          **{'oid': asked['oid'], 'size': asked['size']},
          'actions': {
            'upload': {'href': f'{self.address}/upload/{asked["oid"]}'}
          },
        }
        for asked in json.loads(body)['objects']
      ]
      return 200, json.dumps({'objects': objects}).encode()
    if '/commit/' in path:
      return 200, self._commit(name, body)
    return 404, b'{}'

  def _commit(self, name, body):
    for line in body.splitlines():
      entry = json.loads(line)
      value = entry['value']
      if entry['key'] == 'header':
        self.commits.append(value['summary'])
      elif entry['key'] == 'file':
        content = base64.b64decode(value['content'])
        self.files[name][value['path']] = content
      else:
        self.files[name][value['path']] = self.objects[value['oid']]
    url = f'{self.address}/{name}/commit/{_SHA}'
    return json.dumps({'commitUrl': url, 'commitOid': _SHA}).encode()


@contextlib.contextmanager
def fake_hub(monkeypatch, cache: str) -> Iterator[FakeHub]:
  """Starts one, and makes the hub's library use it, with a token."""

  class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, method):
      path = self.path.partition('?')[0]
      hub.requests.append(f'{method} {path}')
      length = int(self.headers.get('Content-Length') or 0)
      body = self.rfile.read(length) if length else self.read_chunks()
      status = next(
        (s for start, s in hub.refused.items() if path.startswith(start)), 0
      )
      authorised = f'Bearer {TOKEN}' == self.headers.get('Authorization')
      if status:
        answer = b'{"error": "it is refused"}'
      elif method == 'POST' and not authorised:
        status, answer = 401, b'{"error": "Invalid credentials"}'
      elif method == 'POST':
        status, answer = hub.post(path, body)
      elif method == 'PUT':
        status, answer = 200, b''
        hub.objects[path.rpartition('/')[2]] = body
      else:
        status, answer = hub.get(path)
      self.send_response(status)
      if status == 404:
        self.send_header('X-Error-Code', answer.decode())
      self.send_header('ETag', f'"{hashlib.sha256(answer).hexdigest()}"')
      self.send_header('X-Repo-Commit', _SHA)
      self.send_header('Content-Length', str(len(answer)))
      self.end_headers()
      if method != 'HEAD':
        self.wfile.write(answer)

    def read_chunks(self):
      body = b''
      if self.headers.get('Transfer-Encoding') == 'chunked':
        while size := int(self.rfile.readline(), 16):
          body += self.rfile.read(size)
          self.rfile.readline()
        self.rfile.readline()
      return body

    def do_GET(self):
      self.answer('GET')

    def do_HEAD(self):
      self.answer('HEAD')

    def do_POST(self):
      self.answer('POST')

    def do_PUT(self):
      self.answer('PUT')

    def log_message(self, *arguments):
      pass

  server = http.server.ThreadingHTTPServer(('localhost', 0), Handler)
  thread = threading.Thread(target=server.serve_forever, args=(0.05,))
  thread.start()
  hub = FakeHub(f'http://localhost:{server.server_port}')
  template = constants.HUGGINGFACE_CO_URL_TEMPLATE
  template = template.replace(constants.ENDPOINT, hub.address)
  monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)
  monkeypatch.setattr(constants, 'ENDPOINT', hub.address)
  monkeypatch.setattr(constants, 'HF_HUB_CACHE', cache)
  monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)
  monkeypatch.setenv('HF_TOKEN', TOKEN)
  try:
    yield hub
  finally:
    server.shutdown()
    thread.join()
    server.server_close()
