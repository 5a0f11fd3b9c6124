"""Readers of files from anyone refuse corrupted ones in one line.

Each case is drawn from its seed and number alone. See
`support/fuzz_process.py` for what counts as wrong.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

PROCESS = pathlib.Path(__file__).parent / 'support' / 'fuzz_process.py'
# Cases of the long test: about a minute on two cores.
COUNTS = {
  'images': 8000,
  'safetensors': 2500,
  'pth': 4000,
  'tars': 4000,
  'run': 2500,
  'checkpoint': 250,
}


def fuzz(names, seed, count, run):
  """Returns the output of a process that reads corrupted files, by line."""
  done = subprocess.run(
    [sys.executable, PROCESS, ','.join(names), str(seed), str(count), run],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONHASHSEED': '0'},
    capture_output=True,
    text=True,
    errors='replace',
    check=False,
  )
  lines = [json.loads(line) for line in done.stdout.splitlines()]
  assert done.returncode == 0, (lines[-1:], done.stderr[-3000:])
  assert [line for line in lines if 'wrong' in line] == []
  return {
    line['reader']: line['refused'] for line in lines if 'refused' in line
  }


def test_corrupted_files_are_refused_in_one_line(trained_run):
  names = [name for name in COUNTS if name != 'checkpoint']
  refused = fuzz(names, 0, 20, trained_run)
  # Else the cases would not be corrupted enough to mean anything.
  assert all(refused[name] > 5 for name in names), refused


@pytest.mark.slow
@pytest.mark.parametrize('name', COUNTS)
def test_many_corrupted_files_are_refused_in_one_line(name, trained_run):
  refused = fuzz([name], 1, COUNTS[name], trained_run)
  assert refused[name] > COUNTS[name] / 10
