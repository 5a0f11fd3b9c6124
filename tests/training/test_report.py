"""Reports on a terminal and in a file, and which steps have one."""

import fcntl
import os
import pty
import struct
import sys
import termios
import threading

import jax.numpy as jnp
import pytest
from etils import epath

from convmixer_jax.checkpoints.metrics_table import read_table
from convmixer_jax.training.callbacks import CallbackList
from convmixer_jax.training.metrics import TrainMetrics
from convmixer_jax.training.report import Reporter
from convmixer_jax.training.tasks import ONE_CLASS


def metrics_of(loss):
  return TrainMetrics.single_from_model_output(
    loss=jnp.float32(loss),
    correct=jnp.float32(0.5),
    learning_rate=jnp.float32(0.01),
    gradient_norm=jnp.float32(1),
    parameter_norm=jnp.float32(1),
    update_norm=jnp.float32(1),
    skipped=jnp.bool_(False),
  )


def report(config, workdir, first_step=0, last_step=12, window=None):
  """Reports 20 steps, an epoch being 10; the loss is the step's number."""
  reporter = Reporter(
    epath.Path(workdir),
    window or ONE_CLASS.empty_window(),
    0,
    config,
    first_step=first_step,
    num_steps=20,
    steps_per_epoch=10,
    callbacks=CallbackList(()),
  )
  for step in range(first_step + 1, last_step + 1):
    reporter.add(step, metrics_of(step))
    if step == 10:
      reporter.flush()
      reporter.evaluation(
        step,
        {'eval_loss': 1.5, 'eval_accuracy': 0.5, 'eval_accuracy_top5': 0.75},
      )
  window = reporter.flush()
  reporter.close()
  return window


@pytest.fixture
def on_terminal(monkeypatch):
  """Runs a function with a terminal as stdout; returns what it shows."""

  def run(function, columns=80):
    ours, theirs = pty.openpty()
    fcntl.ioctl(
      theirs, termios.TIOCSWINSZ, struct.pack('4H', 24, columns, 0, 0)
    )
    shown = bytearray()

    def read():
      try:
        while piece := os.read(ours, 2**16):
          shown.extend(piece)
      except OSError:  # how Linux ends it
        pass

    reader = threading.Thread(target=read)
    reader.start()
    with open(theirs, 'w') as terminal, monkeypatch.context() as patch:
      patch.setattr(sys, 'stdout', terminal)
      function()
    reader.join()
    os.close(ours)
    # What a carriage return writes over is gone; no line is moved up.
    assert b'\x1b[A' not in shown
    lines = shown.decode().replace('\r\n', '\n').split('\n')
    return [line.split('\r')[-1].rstrip() for line in lines]

  return run


def test_all_reports_stay_above_the_bar_on_a_terminal(
  config, tmp_path, on_terminal
):
  *reports, bar, end = on_terminal(lambda: report(config, tmp_path), 100)
  assert [line.split()[1] for line in reports] == [
    *('1/20', '5/20'),
    *('10/20', '10/20'),
  ]
  assert 'train_loss 1.0000' in reports[0] and 'eval_loss' in reports[3]
  assert '12/20' in bar and 'step/s' in bar and not end


def test_reports_fit_a_narrow_terminal(config, tmp_path, on_terminal):
  lines = on_terminal(lambda: report(config, tmp_path), 60)
  assert all(len(line) <= 60 for line in lines)
  assert sum('_loss ' in line for line in lines) == 4


def test_file_has_the_reports_alone(config, tmp_path, capsys):
  report(config, tmp_path)
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[1] for line in lines] == [
    '1/20',
    '5/20',
    '10/20',
    '10/20',
  ]


def test_first_step_is_also_part_of_the_next_report(config, tmp_path, capsys):
  report(config, tmp_path)
  rows = read_table(tmp_path / 'metrics.csv')
  assert list(rows) == [1, 5, 10]
  assert rows[1]['train_loss'] == 1 and rows[5]['train_loss'] == 3
  assert 'images_per_sec' not in rows[1]


def test_resumed_run_prints_its_first_step_but_keeps_the_same_table(
  config, tmp_path, capsys
):
  whole, pieces = (
    epath.Path(tmp_path / 'whole'),
    epath.Path(tmp_path / 'pieces'),
  )
  whole.mkdir()
  pieces.mkdir()
  report(config, whole)
  capsys.readouterr()
  window = report(config, pieces, last_step=7)
  report(config, pieces, first_step=7, window=window)
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[1] for line in lines] == [
    *('1/20', '5/20', '8/20'),
    *('10/20', '10/20'),
  ]
  assert 'train_loss 8.0000' in lines[2]

  def without_speed(table):
    return {
      step: {k: v for k, v in row.items() if not k.endswith('_per_sec')}
      for step, row in read_table(table).items()
    }

  assert without_speed(pieces / 'metrics.csv') == without_speed(
    whole / 'metrics.csv'
  )
