"""The text of `--help`."""

import pathlib
import re
import subprocess
import sys
import tomllib

import commands
import pytest


def help_of(name):
  done = commands.run(['convmixer_jax', name, '--help'])
  assert (done.returncode, done.stderr) == (0, '')
  return done.stdout


@pytest.mark.parametrize('name', ['evaluate', 'predict', 'export', 'convert'])
def test_help_describes_every_source_once(name):
  text = help_of(name)
  for source in ('RUN@newest', 'RUN/checkpoints/STEP', '[@REVISION]', '.bin'):
    assert text.count(source) == 1, source
  assert 'model.safetensors' in text


def test_help_marks_required_and_boolean_flags():
  text = help_of('plan')
  assert 'SOURCE' not in text
  blocks = dict(re.findall(r'^  --(\S+)\n((?: {6}.*\n?)+)', text, re.MULTILINE))
  assert {'[no]search', '[no]debug', 'config', 'output'} <= set(blocks)
  required = {name for name in blocks if '(required)' in blocks[name]}
  assert required == {'config', 'topology'}


def test_version_is_that_of_the_project_and_needs_no_jax():
  root = pathlib.Path(__file__).parents[2]
  project = tomllib.loads((root / 'pyproject.toml').read_text())['project']
  code = (
    "import sys; sys.argv = ['convmixer', '--version']\n"
    'from convmixer_jax.cli.main import main\n'
    'main()\n'
    "assert 'jax' not in sys.modules\n"
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=root,
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout == f'convmixer {project["version"]}\n'
