"""Runs programs as `python` would, in forks of a process that has imported JAX.

Each is a process of its own, with status and streams of its own, but starts in
a tenth of a second. XLA optimizes less in them: see `forks.py`.
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
import jax

STUCK_AFTER = 900  # seconds


def run(
  arguments: list[str],
  environment: Mapping[str, str] = {},
  *,
  directory: str | os.PathLike = forks.ROOT,
  num_devices: int = 1,
  is_read: bool = True,
) -> subprocess.CompletedProcess:
  """Runs `python train.py ...`, `python -m convmixer_jax ...`, `python -c ...`.

  Args:
    arguments: the path of the program, the name of the module, or `-c` and the
      text of a program; and its own.
    environment: variables to set, that JAX reads after it is imported.
    directory: that it runs in.
    num_devices: that the CPU pretends to be.
    is_read: whether anybody reads stdout; else it is a closed pipe.
  """
  with tempfile.TemporaryDirectory() as scratch:
    streams = [os.path.join(scratch, name) for name in ('out', 'err')]
    process = forks.context().Process(
      target=_run,
      args=(
        list(map(str, arguments)),
        streams,
        environment,
        directory,
        num_devices,
        is_read,
      ),
    )
    process.start()
    process.join()
    texts = [pathlib.Path(stream).read_text() for stream in streams]
  return subprocess.CompletedProcess(arguments, process.exitcode, *texts)


def complaints(done: subprocess.CompletedProcess) -> list[str]:
  """Returns the lines of stderr, without warnings that do not matter here.

  Those are Orbax's that the machine is slow, and what is assumed of the images
  of weights that do not contain it.
  """
  without = 'Waiting for previous save', 'of its images; assumed are'
  lines = done.stderr.splitlines()
  return [line for line in lines if not any(text in line for text in without)]


def _run(arguments, streams, environment, directory, num_devices, is_read):
  signal.alarm(STUCK_AFTER)
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
  tempfile.tempdir = None  # which is from $TMPDIR
  os.chdir(directory)
  jax.config.update('jax_num_cpu_devices', num_devices)
  is_file = arguments[0].endswith('.py')
  own = pathlib.Path(arguments[0]).resolve().parent if is_file else os.getcwd()
  sys.path[:0] = [str(own), str(forks.ROOT)]
  sys.argv = list(arguments)
  if arguments[0] == '-c':
    sys.argv = ['-c', *arguments[2:]]
    exec(arguments[1], {'__name__': '__main__'})
  elif is_file:
    runpy.run_path(arguments[0], run_name='__main__')
  else:
    runpy.run_module(arguments[0], run_name='__main__', alter_sys=True)
