"""The watchdog; runs of two processes are in test_agreement.py."""

import os
import time

import jax
import pytest

from convmixer_jax.distributed import watchdog


@pytest.fixture(autouse=True)
def processes(monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)


@pytest.fixture
def statuses(monkeypatch):
  """What the process would have ended with."""
  found = []
  monkeypatch.setattr(os, '_exit', found.append)
  return found


class Clock:
  """Stands for `time` in the module, and counts how often it is read."""

  def __init__(self):
    self._now, self._reads = 0.0, 0

  def monotonic(self):
    now = self._now
    self._reads += 1
    return now

  def advance(self, seconds):
    """Returns once the watchdog has read the new time and acted on it."""
    self._now += seconds
    reads = self._reads
    give_up = time.monotonic() + 600
    while self._reads < reads + 3:  # the first may be of the old time
      assert time.monotonic() < give_up
      time.sleep(0.01)


@pytest.fixture
def clock(monkeypatch):
  monkeypatch.setattr(watchdog, 'time', clock := Clock())
  return clock


def test_step_that_takes_too_long_ends_the_process(statuses, capsys):
  with watchdog.Watchdog(0.5) as dog:
    dog.expect('step 3')
    give_up = time.monotonic() + 600
    while not statuses and time.monotonic() < give_up:
      time.sleep(0.01)
  assert set(statuses) == {watchdog.EXIT_STATUS}
  assert capsys.readouterr().err.splitlines()[0] == (
    'error: waited 0.5 s for step 3 (config.hang_timeout = 0.5); another '
    'process hangs; the same command resumes from the last checkpoint'
  )


def test_regular_steps_do_not_end_the_process(statuses, clock):
  with watchdog.Watchdog(1) as dog:
    clock.advance(100)  # before something is expected, it waits for ever
    for step in range(4):
      dog.expect(f'step {step}')
      clock.advance(0.9)
    dog.expect('an evaluation', watchdog.PATIENCE)
    clock.advance(9.9)
  assert not dog._thread.is_alive()
  assert statuses == []


def test_single_process_is_never_ended(monkeypatch, statuses):
  monkeypatch.setattr(jax, 'process_count', lambda: 1)
  with watchdog.Watchdog(0.01) as dog:
    dog.expect('step 3')
    time.sleep(0.1)
  assert statuses == []
