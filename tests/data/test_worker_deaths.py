"""A worker process that is killed at a bad moment does not block the others."""

import gc
import multiprocessing
import os
import signal
import struct
import threading

import numpy as np
import pytest

from configs import digits
from convmixer_jax.data import pipeline, worker_deaths
from convmixer_jax.data.examples import InMemorySource
from convmixer_jax.errors import UserError


def leave_part_of_a_batch(iterator):
  iterator._buffer._writer._send(struct.pack('!i', 1000) + b'part')


def hold(lock):
  thread = threading.Thread(target=lock.acquire)  # which never releases it
  thread.start()
  thread.join()


def hold_the_lock(iterator):
  hold(iterator._set_state_request_count.get_lock())


def hold_the_lock_of_the_end(iterator):
  hold(iterator._prefetch_should_stop._cond)


@pytest.mark.slow
@pytest.mark.parametrize('num_workers', [1, 2])
@pytest.mark.parametrize(
  'moment', [leave_part_of_a_batch, hold_the_lock, hold_the_lock_of_the_end]
)
def test_worker_killed_at_a_bad_moment_is_reported(moment, num_workers):
  config = digits.get_config()
  config.batch_size, config.input.num_workers = 4, num_workers
  image = np.zeros((8, 8, 3), np.uint8)
  source = InMemorySource([{'image': image, 'label': 0}] * 64, ('a', 'b'))
  batches = pipeline.train_batches(source, config)
  next(batches)
  iterators = [
    item
    for item in gc.get_objects()
    if issubclass(type(item), worker_deaths._Iterator) and not item._closed
  ]
  (iterator, *_) = iterators
  pid = iterator._prefetch_process.pid
  os.kill(pid, signal.SIGSTOP)  # so that it writes nothing else
  moment(iterator)
  os.kill(pid, signal.SIGKILL)
  with pytest.raises(UserError, match='was ended by SIGKILL'):
    while True:
      next(batches)
  assert not multiprocessing.active_children()


@pytest.mark.slow
def test_batches_that_are_collected_while_others_start_block_nothing(
  monkeypatch,
):
  config = digits.get_config()
  config.batch_size, config.input.num_workers = 4, 1
  image = np.zeros((8, 8, 3), np.uint8)
  source = InMemorySource([{'image': image, 'label': 0}] * 64, ('a', 'b'))
  first = pipeline.train_batches(source, config)
  next(first)
  cycle = [first]  # as a traceback makes
  cycle.append(cycle)
  start, earlier = worker_deaths._start, set(worker_deaths._watchers.values())

  def start_and_collect(iterator):
    start(iterator)
    if iterator._iter_parent not in earlier:
      gc.collect()

  monkeypatch.setattr(worker_deaths, '_start', start_and_collect)
  gc.disable()  # not before
  try:
    del first, cycle
    second = pipeline.train_batches(source, config)
    next(second)
  finally:
    gc.enable()
  second.close()
  assert not multiprocessing.active_children()
