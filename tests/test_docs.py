"""The pages name paths, commands, flags, keys and figures that there are."""

import functools
import importlib
import pathlib
import re
import shlex

import commands
import pytest

from configs import default, imagenet
from convmixer_jax import config as config_lib
from convmixer_jax.analysis import flops
from convmixer_jax.cli import benchmark, main
from convmixer_jax.models import MODELS, create_model

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'convmixer_jax'
PAGES = [
  ROOT / 'README.md',
  *sorted(ROOT.glob('docs/*.md')),
  *sorted(ROOT.glob('results/**/README.md')),
]
PICTURE = ROOT / 'docs' / 'batch_flow.svg'
FOLDERS = {
  path.name
  for top in (ROOT, PACKAGE)
  for path in top.iterdir()
  if path.is_dir() and not path.name.startswith(('.', '_'))
} - {'data', 'runs'}  # of the user, in the pages' commands
ENDINGS = 'py|md|txt|png|svg|json|csv|cc|h|ipynb|toml|cff'

_FENCED = r'^```\w*\n(.*?)^```'
_INDENTED = r'(?<=\n\n)(?: {4}.*\n)+'
_INLINE = r'`([^`\n]+)`'
_COMMAND = (
  r'(?:(?:\bpython3?|bin/python) +|\b(?=convmixer ))((?:-m )?[\w./]+)(.*)'
)


def page_id(path):
  return str(path.relative_to(ROOT))


def each_page(function):
  return pytest.mark.parametrize('page', PAGES, ids=page_id)(function)


def prose_of(text):
  """Returns the text without its blocks of code."""
  text = re.sub(_FENCED, '', text, flags=re.DOTALL | re.MULTILINE)
  return re.sub(_INDENTED, '', text)


def code_of(text):
  """Returns the lines of all blocks of code, and the pieces in prose."""
  blocks = re.findall(_FENCED, text, flags=re.DOTALL | re.MULTILINE)
  blocks += re.findall(_INDENTED, text)
  blocks += re.findall(_INLINE, prose_of(text))
  lines = re.sub(r' *\\\n\s*', ' ', '\n'.join(blocks)).splitlines()
  return [line.strip().removeprefix('$ ') for line in lines]


def command_lines(text):
  """Yields program, arguments and the line that follows each command."""
  lines = code_of(text)
  for line, following in zip(lines, [*lines[1:], ''], strict=True):
    for program, rest in re.findall(_COMMAND, line):
      rest = re.split(r' +# | [<>] ?| && ', rest)[0]
      yield program, _split(rest), following


def _split(rest):
  try:
    return shlex.split(rest, comments=True)
  except ValueError:  # a quote that another line or a shell opened
    return rest.replace('"', ' ').replace("'", ' ').split()


@functools.cache
def flags_of(name):
  """Returns the flags that `--help` of a command lists, and common ones."""
  done = commands.run(['convmixer_jax', *name.split(), '--help'])
  assert done.returncode == 0, done.stderr
  own = re.findall(r'^  --(?:\[no\])?([\w.]+)', done.stdout, re.MULTILINE)
  return {*own, 'debug', 'help'}


@functools.cache
def known_keys():
  """Returns the keys of all configs, and the fields of all networks."""
  keys = set(config_lib.flatten(default.get_config()))
  for architecture in MODELS.values():
    keys |= {f'model.{field}' for field in architecture.fields}
  return keys


def name_of(program, arguments):
  """Returns the command's name and other arguments, or None."""
  if program == 'train.py':
    return 'train', arguments
  if program not in ('-m convmixer_jax', 'convmixer'):
    return None
  (name, *others) = arguments
  if name.startswith('-') or name.isupper():  # --help, COMMAND
    return None
  if name == 'benchmark':
    return f'{name} {others[0]}', others[1:]
  return name, others


@each_page
def test_links_lead_to_files(page):
  for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
    if not re.match(r'https?:', target):
      path = target.partition('#')[0]
      assert not path or (page.parent / path).exists(), target


@pytest.mark.parametrize('page', [*PAGES, PICTURE], ids=page_id)
def test_named_files_are_in_the_checkout(page):
  pattern = rf'(?<![\w/.@*=-])((\w+)/[\w./-]+\.(?:{ENDINGS}))(?![\w*])'
  for path, folder in re.findall(pattern, page.read_text()):
    if folder in FOLDERS:
      places = ROOT / path, PACKAGE / path, page.parent / path
      assert any(place.exists() for place in places), path


@each_page
def test_tests_named_exist(page):
  for path, name in re.findall(r'(tests/[\w/]+\.py)::(\w+)', page.read_text()):
    assert f'def {name}(' in (ROOT / path).read_text(), name


@each_page
@pytest.mark.slow
def test_commands_have_the_flags_shown(page):
  for program, arguments, following in command_lines(page.read_text()):
    called = name_of(program, arguments)
    if called is None or following.startswith('error:'):
      continue
    name, arguments = called
    flags = flags_of(name)
    for argument in arguments:
      if not argument.startswith('--'):
        continue
      flag = argument[2:].partition('=')[0]
      if flag.startswith('config.'):
        assert 'config' in flags, (name, flag)
        assert flag.removeprefix('config.') in known_keys(), flag
      else:
        assert flags & {flag, flag.removeprefix('no')}, (name, flag)


@each_page
def test_scripts_have_the_flags_shown(page):
  sources = ''.join(p.read_text() for p in ROOT.glob('scripts/*.py'))
  for program, arguments, _ in command_lines(page.read_text()):
    if program.startswith('scripts/'):
      assert (ROOT / program).exists()
      for flag in re.findall(r'--(\w+)', ' '.join(arguments)):
        assert re.search(rf"'(?:--)?{flag}'", sources), (program, flag)


@each_page
@pytest.mark.slow
def test_flags_and_keys_in_prose_exist(page):
  names = set(main.COMMANDS) - {'benchmark'}
  names |= {f'benchmark {name}' for name in benchmark.COMMANDS}
  flags = set.union(*map(flags_of, names))
  keys = known_keys()
  sections = {key.rpartition('.')[0] for key in keys} | {'name'}
  for code in re.findall(_INLINE, prose_of(page.read_text())):
    for flag in re.findall(r'^--(?!xla_)(\w+)(?=$|[=\s])', code):
      assert flags & {flag, flag.removeprefix('no')}, code
    for key in re.findall(r'^(?:--)?config\.([a-z_.]+\w)', code):
      if key not in ('json', 'py'):  # files
        assert key in keys | sections | {'model.name'}, code


@each_page
def test_targets_of_make_exist(page):
  makefile = (ROOT / 'Makefile').read_text()
  for line in code_of(page.read_text()):
    if target := re.match(r'make ([\w-]+)', line):
      assert re.search(rf'^{target[1]}:', makefile, re.MULTILINE), line


@each_page
def test_imports_in_the_docs_work(page):
  pattern = r'from ((?:convmixer_jax|configs)[\w.]*) import (\w+)'
  for module, name in re.findall(pattern, page.read_text()):
    found = importlib.import_module(module)
    if not hasattr(found, name):
      importlib.import_module(f'{module}.{name}')
  package = importlib.import_module('convmixer_jax')
  for name in re.findall(r'\bconvmixer_jax\.(load\w*)\(', page.read_text()):
    assert hasattr(package, name)


def test_output_in_the_readme_was_recorded():
  readme = (ROOT / 'README.md').read_text()
  log = (ROOT / 'results' / 'digits' / 'log.txt').read_text().splitlines()
  block = re.search(
    r'^\$ make demo\n(.*?)^```', readme, re.DOTALL | re.MULTILINE
  )
  shown = [line for line in block[1].splitlines() if line != '...']
  numbers = [log.index(line) for line in shown]
  assert numbers == sorted(numbers) and len(shown) > 5
  assert shown[-1] == log[-1] == 'eval_accuracy = 0.9915'


@functools.cache
def counts_of(variant):
  """Returns parameters and GMACs for 1,000 classes at 224 x 224."""
  model = create_model(imagenet.get_config(variant).model, 1000)
  macs = flops.count_forward(model, 224).total
  return flops.count_parameters(model, 224), macs / 1e9


@pytest.mark.slow
@pytest.mark.parametrize('path', ['README.md', 'docs/config_files.md'])
def test_parameters_and_macs_are_those_of_the_networks(path):
  rows = 0
  for line in (ROOT / path).read_text().splitlines():
    variant = re.search(r'imagenet\.py:(\w+)|^\| `(\w+)`', line)
    cells = [cell.strip() for cell in line.strip('|').split('|')]
    if not variant or not re.match(r'\|[^|]*\| [\d,.]+( M)? \|', line):
      continue
    parameters, macs = counts_of(variant[1] or variant[2])
    if cells[1].endswith('M'):
      assert cells[1] == f'{parameters / 1e6:.1f} M'
      assert cells[2] == f'{macs:.1f}'
    else:
      assert cells[1] == f'{parameters:,}'
      assert cells[2] == f'{macs:.2f}'
    rows += 1
  assert rows > 3
