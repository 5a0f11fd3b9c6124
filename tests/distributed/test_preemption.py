"""SIGTERM and Ctrl-C: saved after the step, and resumed bit for bit."""

import itertools
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from etils import epath
from run_files import assert_identical, read_rows, read_state

from configs import default
from convmixer_jax.data import pipeline
from convmixer_jax.distributed import preemption
from convmixer_jax.errors import Interrupted, Preempted, UserError
from convmixer_jax.training import loop

ROOT = pathlib.Path(__file__).parents[2]


NUM_STEPS = 25  # an epoch is 22


@pytest.fixture
def config():
  """The same for all, so that it is compiled once."""
  config = default.get_config()
  config.batch_size = 64
  config.model.width = 8
  config.model.depth = 1
  config.model.depthwise = 'shift'
  config.num_steps = NUM_STEPS
  config.checkpoint_every_steps = 100
  config.log_every_steps = 5
  config.input.num_threads = 2
  return config


def wait_for(signals):
  give_up = time.monotonic() + 600
  while not signals.stop(1):
    assert time.monotonic() < give_up
    time.sleep(0.01)


@pytest.fixture
def send_at(monkeypatch):
  """Has the process send itself a signal as it asks for some batch."""

  def patch(name, at, number):
    make, asked = getattr(pipeline, name), itertools.count(1)
    entered = []

    class Signals(preemption.Signals):
      def __enter__(self):
        entered.append(self)
        return super().__enter__()

    def batches(*args, **kwargs):
      for batch in make(*args, **kwargs):
        if next(asked) == at:
          os.kill(os.getpid(), number)
          wait_for(entered[-1])
        yield batch

    monkeypatch.setattr(pipeline, name, batches)
    monkeypatch.setattr(preemption, 'Signals', Signals)

  return patch


@pytest.mark.slow
def test_preempted_run_resumes_bit_for_bit(
  config, tmp_path, monkeypatch, send_at
):
  whole, pieces = str(tmp_path / 'whole'), str(tmp_path / 'pieces')
  results = loop.train_and_evaluate(config, whole)
  # While the first step is compiled, in a later step, in an evaluation.
  for name, at, number, step in (
    ('train_batches', 1, signal.SIGTERM, 1),
    ('train_batches', 6, signal.SIGINT, 7),
    ('eval_batches', 2, signal.SIGTERM, 23),
  ):
    send_at(name, at, number)
    with pytest.raises(Preempted) as caught:
      loop.train_and_evaluate(config, pieces)
    monkeypatch.undo()
    message = str(caught.value)
    assert message.startswith(f'stopped by {number.name}: step {step} is saved')
    assert '\n' not in message
    assert read_state(pieces, step)['step'] == step
  # In the last evaluation, after which there is nothing left to stop.
  send_at('eval_batches', 2, signal.SIGTERM)
  assert loop.train_and_evaluate(config, pieces) == results
  assert_identical(read_state(pieces, NUM_STEPS), read_state(whole, NUM_STEPS))
  assert read_rows(pieces) == read_rows(whole)
  assert [row['step'] for row in read_rows(whole)] == [1, 5, 10, 15, 20, 22, 25]


def test_signal_before_the_first_step_saves_nothing(
  config, tmp_path, monkeypatch
):
  before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

  class AlreadyStopping(preemption.Signals):
    def __enter__(self):
      super().__enter__()
      os.kill(os.getpid(), signal.SIGTERM)
      return self

  monkeypatch.setattr(preemption, 'Signals', AlreadyStopping)
  with pytest.raises(Preempted, match='nothing was saved yet'):
    loop.train_and_evaluate(config, str(tmp_path))
  assert not any((tmp_path / 'checkpoints').iterdir())
  after = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
  assert after == before


def test_error_after_a_signal_is_reported_as_preemption(tmp_path):
  with (
    pytest.raises(Preempted, match='SIGTERM, and then by RuntimeError: gone'),
    preemption.Signals(epath.Path(tmp_path)) as signals,
  ):
    os.kill(os.getpid(), signal.SIGTERM)
    wait_for(signals)
    raise RuntimeError('gone')
  with (
    pytest.raises(UserError, match='wrong'),
    preemption.Signals(epath.Path(tmp_path)) as signals,
  ):
    os.kill(os.getpid(), signal.SIGTERM)
    wait_for(signals)
    raise UserError('wrong')


def test_signal_handlers_are_not_installed_in_other_threads(tmp_path):
  found = []

  def run():
    with preemption.Signals(epath.Path(tmp_path)) as signals:
      found.append((signals.stop(1), signal.getsignal(signal.SIGTERM)))

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  assert found == [(False, signal.getsignal(signal.SIGTERM))]


BLOCKED = """
import ctypes
from etils import epath
from convmixer_jax.distributed.preemption import (
  Signals,
  exit_at_second_interrupt,
)
exit_at_second_interrupt()
with Signals(epath.Path('.')):
  print('ready', flush=True)
  while True:  # as in XLA's compiler, where no handler of Python's is run
    ctypes.CDLL(None).sleep(100)
"""


def test_second_interrupt_of_other_programs_returns_to_them(tmp_path):
  before = signal.getsignal(signal.SIGINT)
  with (
    pytest.raises(Interrupted, match='second SIGINT, without saving; the same'),
    preemption.Signals(epath.Path(tmp_path)) as signals,
  ):
    os.kill(os.getpid(), signal.SIGINT)
    wait_for(signals)
    assert isinstance(signals.preempted(3), KeyboardInterrupt)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(600)  # which the signal ends
  assert signal.getsignal(signal.SIGINT) is before


def test_second_interrupt_of_a_command_exits_at_once():
  process = subprocess.Popen(
    [sys.executable, '-c', BLOCKED],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'ready\n'
  process.send_signal(signal.SIGINT)
  assert process.stderr.readline() == (
    'SIGINT: saving at the end of this step; press Ctrl-C again to stop '
    'without saving\n'
  )
  process.send_signal(signal.SIGINT)
  _, rest = process.communicate(timeout=600)
  assert process.returncode == 130
  assert rest == 'stopped without saving\n'
