"""The Dockerfile copies what there is, and starts a command that there is."""

import fnmatch
import json
import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def instructions():
  """Returns the name and the rest of each, lines that continue joined."""
  text = (ROOT / 'Dockerfile').read_text()
  text = re.sub(r'^\s*#.*\n', '', text, flags=re.MULTILINE)
  lines = text.replace('\\\n', ' ').splitlines()
  return [line.split(None, 1) for line in lines if line.strip()]


def of_kind(kind):
  return [rest for name, rest in instructions() if name == kind]


def ignored(path):
  """Whether .dockerignore leaves a path out; its last line that fits says."""
  result = False
  for line in (ROOT / '.dockerignore').read_text().splitlines():
    pattern = line.removeprefix('!').removeprefix('**/')
    parts = pathlib.PurePath(path).parts
    if line and not line.startswith('#') and fnmatch.fnmatch(parts[0], pattern):
      result = not line.startswith('!')
  return result


def test_copied_files_exist_and_are_not_ignored():
  sources = [source for rest in of_kind('COPY') for source in rest.split()[:-1]]
  assert 'requirements.txt' in sources and 'convmixer_jax' in sources
  for source in sources:
    assert (ROOT / source).exists() and not ignored(source), source
  for left_out in ('tests', 'results', 'runs', '.git'):
    assert ignored(left_out)


def test_what_the_build_reads_is_copied():
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
  needed = {
    *project['tool']['setuptools']['dynamic']['dependencies']['file'],
    *project['project']['license-files'],
    *('pyproject.toml', 'setup.py', 'configs', 'convmixer_jax'),
  }
  assert needed <= {s for rest in of_kind('COPY') for s in rest.split()[:-1]}


def test_images_are_pinned_and_targets_known():
  targets = []
  for rest in of_kind('FROM'):
    image, *name = rest.split(' AS ')
    if image not in targets:
      assert re.fullmatch(r'python:3\.\d+-slim-bookworm', image)
      version = image.split(':')[1].split('-')[0]
      assert (3, 11) <= tuple(map(int, version.split('.')))
    targets += name
  assert targets == ['cpu', 'cuda']
  text = (ROOT / 'Dockerfile').read_text()
  assert set(re.findall(r'--target (\w+)', text)) == {'cpu', 'cuda'}


def test_command_is_that_of_the_package():
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  (entry,) = of_kind('ENTRYPOINT')
  assert json.loads(entry) == list(project['scripts'])


def test_each_target_ends_as_a_user():
  users = {}
  for name, rest in instructions():
    if name == 'FROM':
      target = rest
    if name == 'USER':
      users[target] = rest
  assert list(users.values()) == ['1000', '1000']


@pytest.mark.parametrize('kind', ['bug', 'feature'])
def test_issue_templates_ask_for_something(kind):
  text = (ROOT / '.github' / 'ISSUE_TEMPLATE' / f'{kind}.yml').read_text()
  assert re.search(r'^name: ', text, re.MULTILINE)
  assert text.count('required: true') >= 1
  if kind == 'bug':
    assert '`convmixer --version`' in text
