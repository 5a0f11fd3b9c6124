"""Runs commands as `python` would, in forks of a process that has imported JAX.

Each is a process of its own, with status and streams of its own, but starts in
a tenth of a second.
"""

import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping

import forks

_TIMEOUT = 300  # seconds


def run(
  arguments: list[str],
  environment: Mapping[str, str] = {},
  *,
  is_read: bool = True,
) -> subprocess.CompletedProcess:
  """Runs `python train.py ...` or `python -m convmixer_jax NAME ...`.

  Args:
    arguments: the path of the program, or the name of the module; and its own.
    environment: variables to set.
    is_read: whether anybody reads stdout; else it is a closed pipe.
  """
  with tempfile.TemporaryDirectory() as directory:
    streams = [os.path.join(directory, name) for name in ('out', 'err')]
    process = forks.context().Process(
      target=_run, args=(arguments, streams, environment, is_read)
    )
    process.start()
    process.join()
    texts = [pathlib.Path(stream).read_text() for stream in streams]
  return subprocess.CompletedProcess(arguments, process.exitcode, *texts)


def _run(arguments, streams, environment, is_read):
  signal.alarm(_TIMEOUT)
  for number, path in enumerate(streams, start=1):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
  if not is_read:
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
  sys.stdout, sys.stderr = (
    open(number, 'w', buffering=1, closefd=False)  # noqa: SIM115
    for number in (1, 2)
  )
  os.environ.update(environment)
  os.chdir(forks.ROOT)
  sys.path.insert(0, str(forks.ROOT))
  sys.argv = list(arguments)
  if arguments[0].endswith('.py'):
    runpy.run_path(arguments[0], run_name='__main__')
  else:
    runpy.run_module(arguments[0], run_name='__main__', alter_sys=True)
