"""Describes the machine that a benchmark runs on."""

import os
import pathlib
import platform
from typing import Any


def count_usable_cores() -> int:
  """Returns the number of cores this process may use, or of all if unknown."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def describe_cpu() -> dict[str, str]:
  """Returns `family`, `model` and `stepping` of the CPU, where Linux has them.

  The name of a virtual machine's CPU often does not tell which it is.
  """
  cpu_info = pathlib.Path('/proc/cpuinfo')
  found: dict[str, str] = {}
  if cpu_info.exists():
    for line in cpu_info.read_text().splitlines():
      name, _, value = (part.strip() for part in line.partition(':'))
      name = {'cpu family': 'family'}.get(name, name)
      if name in ('family', 'model', 'stepping'):
        found.setdefault(name, value)
  return found


def describe_machine() -> dict[str, Any]:
  """Returns the name of the `processor`, number of `cores`, and `system`."""
  model = platform.processor() or platform.machine()
  cpu_info = pathlib.Path('/proc/cpuinfo')
  if cpu_info.exists():
    for line in cpu_info.read_text().splitlines():
      if line.startswith('model name'):
        model = line.partition(':')[2].strip()
        break
  return {
    'processor': model,
    'cores': os.cpu_count(),
    'system': platform.system(),
  }
