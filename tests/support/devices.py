"""Runs a script where the CPU is several devices.

The flag that makes it so must be set before JAX starts, so a script runs in a
process of its own.
"""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def run(script: str, count: int, *arguments: str) -> str:
  """Returns what the script prints.

  Args:
    script: the text of a program.
    count: of devices.
    *arguments: its own.
  """
  done = subprocess.run(
    [sys.executable, '-c', script, *arguments],
    env=os.environ
    | {
      'PYTHONPATH': str(ROOT),
      'XLA_FLAGS': f'--xla_force_host_platform_device_count={count}',
      'JAX_PLATFORMS': 'cpu',
    },
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout
