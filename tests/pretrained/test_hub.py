"""The hub: its own library against a small server that answers as it does."""

import hashlib
import http.server
import logging
import threading

import huggingface_hub
import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub import constants, errors
from huggingface_hub.utils import logging as hub_logging

from convmixer_jax.errors import UserError
from convmixer_jax.models.convmixer import state_dict as layouts
from convmixer_jax.pretrained import hub
from convmixer_jax.pretrained.load import load
from convmixer_jax.pretrained.source import parse_source

COMMIT = '1234567890' * 4
CONFIG = b"""{"architecture": "convmixer_768_32", "pretrained_cfg":
  {"input_size": [3, 224, 224], "crop_pct": 0.96, "mean": [0.5, 0.5, 0.5]}}"""


def file_of_weights():
  shapes = layouts._shapes(4, 1, 2, 3, 5, 3)
  return safetensors.numpy.save(
    {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
  )


FILES = {
  '/timm/small/resolve/main/model.safetensors': file_of_weights(),
  '/timm/small/resolve/main/config.json': CONFIG,
  '/timm/plain/resolve/v2/model.safetensors': file_of_weights(),
  '/timm/other/resolve/main/README.md': b'nothing else',
}


class Hub(http.server.BaseHTTPRequestHandler):
  """Serves `FILES`; what is missing has the code that the hub gives."""

  def do_HEAD(self):
    branch = 'v2' if 'plain' in self.path else 'main'
    path = self.path.replace(COMMIT, branch)
    body = FILES.get(path)
    repository, _, rest = path.partition('resolve/')
    revision = rest.split('/')[0]
    if body is not None:
      self.send_response(200)
      self.send_header('ETag', f'"{hashlib.sha256(body).hexdigest()}"')
      self.send_header('X-Repo-Commit', COMMIT)
    elif 'gated' in path:
      self.send_response(403)
      self.send_header('X-Error-Code', 'GatedRepo')
    else:
      code = 'EntryNotFound'
      if not any(file.startswith(repository) for file in FILES):
        code = 'RepoNotFound'
      elif not any(f'{repository}resolve/{revision}' in file for file in FILES):
        code = 'RevisionNotFound'
      self.send_response(404)
      self.send_header('X-Error-Code', code)
    self.send_header('Content-Length', str(len(body or b'')))
    self.end_headers()
    return body

  def do_GET(self):
    self.wfile.write(self.do_HEAD() or b'')

  def log_message(self, *args):
    pass


@pytest.fixture
def server(tmp_path, monkeypatch):
  server = http.server.ThreadingHTTPServer(('localhost', 0), Hub)
  thread = threading.Thread(target=server.serve_forever, args=(0.05,))
  thread.start()
  address = f'http://localhost:{server.server_port}'
  template = constants.HUGGINGFACE_CO_URL_TEMPLATE
  template = template.replace(constants.ENDPOINT, address)
  monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)
  monkeypatch.setattr(constants, 'ENDPOINT', address)
  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
  yield server
  server.shutdown()
  thread.join()
  server.server_close()


def test_weights_are_downloaded_once_and_then_read_offline(server, monkeypatch):
  loaded = load('hf://timm/small')
  assert loaded.fields['activation'] == 'relu'  # the config came with it
  assert loaded.image_size == 224
  assert (loaded.fields['width'], loaded.num_classes) == (4, 5)

  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  again = load('hf://timm/small')
  assert again.fields == loaded.fields
  with pytest.raises(
    UserError, match=r'hf://timm/plain@v2 is not in the cache'
  ):
    load('hf://timm/plain@v2')


def test_retries_of_the_library_are_not_logged(monkeypatch):
  logger = logging.getLogger('huggingface_hub.utils._http')
  logged = []
  handler = logging.Handler()
  handler.emit = logged.append

  def fail(*args, **kwargs):
    logger.warning('Retrying in 1s')
    raise errors.LocalEntryNotFoundError('no network')

  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', fail)
  level = hub_logging.get_verbosity()
  logger.addHandler(handler)
  try:
    hub_logging.set_verbosity_warning()
    with pytest.raises(UserError, match='the hub cannot be reached'):
      load('hf://timm/small')
    assert hub_logging.get_verbosity() == logging.WARNING
  finally:
    logger.removeHandler(handler)
    hub_logging.set_verbosity(level)
  assert logged == []


def test_revision_is_downloaded_without_a_config(server):
  assert load('hf://timm/plain@v2').fields['activation'] == 'gelu'


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    ('hf://timm/nothing', 'the hub has no such repository'),
    ('hf://timm/gated', 'hf://timm/gated is gated: ask for access'),
    ('hf://timm/small@v9', "timm/small has no revision 'v9'"),
    ('hf://timm/other', 'has none of model.safetensors, pytorch_model.bin'),
    ('hf://small', 'hf://small is not a repository; give hf://OWNER/NAME'),
    ('hf://timm/a b', 'hf://timm/a b: .*Repo id must'),
  ],
)
def test_errors_of_the_hub_are_one_line(server, source, message):
  with pytest.raises(UserError, match=message) as caught:
    load(source)
  assert '\n' not in str(caught.value)


def test_availability_is_that_in_the_cache_or_at_the_hub(server, monkeypatch):
  for name, expected in (('small', True), ('other', False), ('gone', False)):
    source = parse_source(f'hf://timm/{name}')
    assert hub.is_available(source) is expected
  load('hf://timm/small')
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  assert hub.is_available(parse_source('hf://timm/small'))
  assert not hub.is_available(parse_source('hf://timm/plain@v2'))
