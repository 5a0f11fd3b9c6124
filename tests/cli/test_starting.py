"""The first line of a training command comes before the slow imports."""

import os
import subprocess
import sys

import forks
import pytest

from convmixer_jax.cli import benchmark
from convmixer_jax.cli.main import COMMANDS

# Ends the program where it would import JAX.
_PROGRAM = """
import sys
class Finder:
  def find_spec(self, name, path=None, target=None):
    if name in ('jax', 'flax', 'tensorflow', 'matplotlib'):
      print('imports', name)
      raise SystemExit(3)
sys.meta_path.insert(0, Finder())
from convmixer_jax.cli import main
main.main()
"""


def start(*arguments, status=3, **environment):
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM, *arguments],
    cwd=forks.ROOT,
    env=os.environ | {'PYTHONPATH': str(forks.ROOT)} | environment,
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stderr) == (status, '')
  return done.stdout.splitlines()


def test_first_line_is_printed_before_jax_is_imported():
  assert start('train', '--config=digits') == ['Loading JAX ...', 'imports jax']


@pytest.mark.parametrize(
  ('arguments', 'environment'),
  [
    (['predict', 'a.jpg'], {}),
    (['train', '--config=digits'], {'SLURM_PROCID': '1'}),
  ],
)
def test_other_commands_and_other_processes_do_not_print_it(
  arguments, environment
):
  assert start(*arguments, **environment) == ['imports jax']


@pytest.mark.parametrize(
  'name',
  [
    'train',
    *(
      pytest.param(name, marks=pytest.mark.slow)
      for name in (
        *sorted(COMMANDS.keys() - {'train', 'benchmark'}),
        *(f'benchmark {name}' for name in benchmark.COMMANDS),
      )
    ),
  ],
)
def test_help_is_printed_without_importing_jax(name):
  first, *rest = start(*name.split(), '--help', status=0)
  assert first.startswith(f'convmixer {name}: ')
  assert 'Flags:' in rest
  assert ('  --[no]overfit_one_batch' in rest) == (name == 'train')
  assert not any(line.startswith(('imports', 'Loading')) for line in rest)
