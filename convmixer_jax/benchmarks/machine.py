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
