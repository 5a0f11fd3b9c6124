"""Runs a script where the CPU is several devices.

How many must be known before JAX starts, so a script runs in a process of its
own.
"""

import commands


def run(script: str, count: int, *arguments: str) -> str:
  """Returns what the script prints.

  Args:
    script: the text of a program.
    count: of devices.
    *arguments: its own.
  """
  done = commands.run(['-c', script, *arguments], num_devices=count)
  assert done.returncode == 0, done.stderr
  return done.stdout
