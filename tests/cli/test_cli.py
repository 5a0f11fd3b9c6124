"""Commands in processes of their own; refusals are in test_bad_input.py."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def train(*arguments):
  return subprocess.run(
    [sys.executable, 'train.py', '--config=configs/nope.py', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )


def test_missing_config_is_refused_in_one_line():
  done = train()
  assert done.returncode == 1
  assert done.stderr.startswith('error: --config=configs/nope.py is not a file')
  assert done.stderr.count('\n') == 1


@pytest.mark.slow
def test_debug_flag_prints_a_traceback():
  done = train('--debug')
  assert done.returncode == 1
  assert 'Traceback' in done.stderr and 'UserError' in done.stderr
