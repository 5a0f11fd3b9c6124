"""A process that has failed ends, whatever threads it has."""

import os
import pathlib
import subprocess
import sys
import threading

import pytest

from convmixer_jax.cli import ending
from convmixer_jax.errors import Preempted

ROOT = pathlib.Path(__file__).parents[2]
HANGS = """
import sys, threading
from absl import flags
from convmixer_jax.cli import command, ending
from convmixer_jax.errors import InUse, UserError

ending._PATIENCE = 3  # a traceback takes tenths of a second if it is busy
threading.Thread(target=threading.Event().wait).start()

def main(argv):
  print('output')
  exec(argv[1])

command.run(main)
"""


@pytest.mark.parametrize(
  ('code', 'status', 'error'),
  [
    ("raise UserError('wrong input')", 1, 'error: wrong input'),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in (
        ("raise InUse('in use')", 75, 'error: in use'),
        ("raise KeyError('a bug')", 1, "KeyError: 'a bug'"),
        ('raise KeyboardInterrupt', 130, 'interrupted'),
        ('sys.exit(76)', 76, ''),
      )
    ),
  ],
)
def test_error_ends_a_process_whose_threads_never_end(code, status, error):
  done = subprocess.run(
    [sys.executable, '-c', HANGS, code],
    cwd=ROOT,
    env=os.environ | {'GLIBC_TUNABLES': '', 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, done.stdout) == (status, 'output\n')
  assert done.stderr.rstrip().endswith(error)


@pytest.mark.parametrize('status', [None, 0, Preempted.EXIT_STATUS])
def test_processes_that_end_as_they_should_are_left_alone(monkeypatch, status):
  started = []
  monkeypatch.setattr(threading.Thread, 'start', started.append)
  with pytest.raises(SystemExit), ending.ends_soon_after_errors():
    sys.exit(status)
  with ending.ends_soon_after_errors():
    pass
  assert not started


@pytest.mark.parametrize(
  ('error', 'status'), [(SystemExit('text'), 1), (ValueError('x'), 1)]
)
def test_status_of_an_error_is_that_of_python(monkeypatch, error, status):
  ends = []
  monkeypatch.setattr(ending, '_end_within', lambda *a: ends.append(a))
  with pytest.raises(type(error)), ending.ends_soon_after_errors():
    raise error
  assert ends == [(ending._PATIENCE, status)]


COMPLETE = """
import atexit, os, runpy, signal, sys
from convmixer_jax.training import ending, loop

loop.train_and_evaluate = lambda *_: {'eval_accuracy': 0.5}
ending.describe_end = lambda *_: 'Best'
atexit.register(os.kill, os.getpid(), signal.SIGTERM)
sys.argv = ['', 'train', '--config=digits', '--workdir=run']
runpy.run_module('convmixer_jax', run_name='__main__')
"""


def test_signal_after_the_end_does_not_turn_a_complete_run_into_a_stopped_one():
  done = subprocess.run(
    [sys.executable, '-c', COMPLETE],
    cwd=ROOT,
    env=os.environ | {'GLIBC_TUNABLES': '', 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout.endswith('Best\neval_accuracy = 0.5000\n')
