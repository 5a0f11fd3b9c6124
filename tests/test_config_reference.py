"""Every key of the config is read by the package and documented."""

import ast
import pathlib
import runpy

import pytest

from convmixer_jax import config as config_lib
from convmixer_jax import models

ROOT = next(
  path
  for path in pathlib.Path(__file__).parents
  if (path / 'pyproject.toml').exists()
)
PACKAGE = ROOT / 'convmixer_jax'


def attributes_read(path):
  """Yields what a module reads, as in 'config.mesh.fsdp'."""
  for node in ast.walk(ast.parse(path.read_text())):
    names = []
    while isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
      names.append(node.attr)
      node = node.value
    if names and isinstance(node, ast.Name):
      # self._config is a config, too
      yield '.'.join(n.lstrip('_') for n in [node.id, *reversed(names)])


@pytest.fixture(scope='module')
def read_by_package():
  """What is read outside the config package and the benchmarks."""
  return {
    chain
    for path in PACKAGE.rglob('*.py')
    if path.relative_to(PACKAGE).parts[0] not in ('config', 'benchmarks')
    for chain in attributes_read(path)
  }


def is_read(key, chains):
  """Whether a key is read: from the whole config, or from its section."""
  *sections, leaf = key.split('.')
  ends = [f'config.{leaf}', *(f'{name}.{leaf}' for name in sections[-1:])]
  return any(
    f'.{chain}'.endswith(f'.{end}') for chain in chains for end in ends
  )


def test_every_key_has_a_reader(read_by_package):
  without = [k for k in config_lib.SCHEMA if not is_read(k, read_by_package)]
  assert without == []
  assert not is_read('no_such_key', read_by_package)
  assert not is_read('mesh.no_such_key', read_by_package)


@pytest.mark.parametrize('name', models.MODELS)
def test_every_field_of_a_network_has_a_reader(name):
  architecture = models.MODELS[name]
  files = set()
  for base in architecture.module.__mro__:
    if base.__module__.startswith('convmixer_jax.'):
      path = ROOT / f'{base.__module__.replace(".", "/")}.py'
      # A network in a package of its own divides its work among the files.
      package = path.parent.name != 'models'
      files |= set(path.parent.glob('*.py')) if package else {path}
  read = {
    name
    for path in files
    for chain in attributes_read(path)
    for owner, _, name in [chain.partition('.')]
    if owner in ('self', 'settings', 'network')
  }
  assert architecture.fields.keys() <= read


def test_a_table_has_every_key_with_its_default_values_and_text():
  lines = config_lib.describe().splitlines()
  assert len(lines) == 2 + len(config_lib.SCHEMA)
  assert all(line.count(' | ') == 4 for line in lines)
  assert (
    '| `batch_size` | `128` | whole number; at least 1 | images per update, '
    'over all devices; 0: chosen by their number |  |'
  ) in lines
  assert (
    '| `input.prefetch` | `4` | whole number; at least 1 | batches ready ahead '
    'of the step | yes |'
  ) in lines


def test_reference_equals_what_its_script_writes():
  script = ROOT / 'scripts' / 'write_config_reference.py'
  written = runpy.run_path(str(script))
  assert written['PATH'].read_text() == written['reference'](), (
    'run: python scripts/write_config_reference.py'
  )
