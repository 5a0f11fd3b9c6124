"""The end of batches: of threads, worker processes and their memory."""

import errno
import gc
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.process import BaseProcess

import pytest

from convmixer_jax.data import pipeline, sources
from convmixer_jax.data.batches import Batches
from convmixer_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]

# Reads batches in worker processes, and ends in one of several ways.
PROGRAM = """
import sys

from convmixer_jax.config import default_config
from convmixer_jax.data import pipeline, sources
from convmixer_jax.models import model_config


def main(end):
  config = default_config(model_config('convmixer'))
  config.batch_size, config.input.num_workers = 64, 2
  source = sources.create_source(config.dataset, 'train')
  batches = pipeline.train_batches(source, config)
  last = [next(batches) for _ in range(3)][-1]
  if end == 'error':
    raise KeyError('an error of the program')
  elif end == 'eval':
    for last in pipeline.eval_batches(source, config):
      pass


if __name__ == '__main__':
  main(sys.argv[1])
"""


@pytest.fixture
def config(config):
  config.batch_size = 64
  return config


@pytest.fixture
def source(config):
  return sources.create_source(config.dataset, 'train')


@pytest.mark.slow
@pytest.mark.parametrize('end', ['error', 'eval'])
def test_program_with_worker_processes_ends_silently(tmp_path, end):
  (tmp_path / 'program.py').write_text(PROGRAM)
  done = subprocess.run(
    [sys.executable, tmp_path / 'program.py', end],
    env=os.environ | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )
  lines = done.stderr.splitlines()
  if end == 'error':
    assert (done.returncode, lines[-1]) == (
      1,
      "KeyError: 'an error of the program'",
    )
  else:
    assert (done.returncode, lines) == (0, [])


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSEGV])
def test_worker_process_that_dies_ends_the_batches_with_one_line(
  config, source, number
):
  others = set(multiprocessing.active_children())  # of earlier tests
  config.input.num_workers = 2
  batches = pipeline.train_batches(source, config)
  next(batches)
  worker = min(set(multiprocessing.active_children()) - others, key=str)
  os.kill(worker.pid, number)
  with pytest.raises(UserError, match='worker process') as error:
    while True:  # those that were ready come first
      next(batches)
  message = str(error.value)
  assert f'was ended by {number.name}' in message
  assert ('memory is short' in message) == (number == signal.SIGKILL)
  assert '\n' not in message
  assert set(multiprocessing.active_children()) <= others
  assert next(batches, None) is None


@pytest.mark.slow
def test_worker_is_not_killed_where_another_thread_learns_of_its_end_first(
  config, source, monkeypatch
):
  killed = []  # its batches would stay in memory
  monkeypatch.setattr(BaseProcess, 'kill', lambda p: killed.append(p))
  wait = os.waitpid

  def wait_slowly(pid, options):
    is_main = threading.current_thread() is threading.main_thread()
    if is_main:
      time.sleep(0.1)
    done = wait(pid, options)
    if done[0] and not is_main:
      time.sleep(0.5)  # the main thread's own call then finds no process
    return done

  monkeypatch.setattr(os, 'waitpid', wait_slowly)
  others = set(multiprocessing.active_children())
  config.input.num_workers = 2
  batches = pipeline.train_batches(source, config)
  next(batches)
  batches.close()
  assert set(multiprocessing.active_children()) <= others
  assert not killed


@pytest.mark.parametrize(
  'num_workers', [0, pytest.param(2, marks=pytest.mark.slow)]
)
def test_threads_and_processes_end_with_the_object(config, source, num_workers):
  config.input.num_workers = num_workers
  others = set(threading.enumerate())  # of earlier tests
  batches = pipeline.train_batches(source, config)
  next(batches)
  assert num_workers == 0 or multiprocessing.active_children()
  del batches
  gc.collect()
  assert not multiprocessing.active_children()
  for thread in set(threading.enumerate()) - others:  # that are still ending
    if not thread.daemon:
      thread.join(60)
  left = set(threading.enumerate()) - others
  assert len(left) <= 3  # one pool that frees memory


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EMFILE])
def test_full_shared_memory_is_reported_in_one_line(number):
  class Full:
    def __iter__(self):
      raise OSError(number, os.strerror(number))

  with pytest.raises(UserError, match='room in /dev/shm') as e:
    Batches(Full())
  assert '\n' not in str(e.value)


def test_other_errors_of_reading_are_passed_on():
  def fail():
    yield {'image': 1}
    raise FileNotFoundError

  made = Batches(fail())
  assert next(made) == {'image': 1}
  with pytest.raises(FileNotFoundError):
    next(made)
