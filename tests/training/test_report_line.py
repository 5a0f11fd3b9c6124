"""The lines that a run reports its metrics in."""

import pytest

from convmixer_jax.training.report_line import (
  report_line,
  steps_between_reports,
)

VALUES = {
  'train_loss': 1.23456,
  'train_accuracy': 0.5,
  'learning_rate': 0.01,
  'gradient_norm': 7.0,
  'images_per_sec': 1234.56,
}


@pytest.mark.parametrize(
  ('chosen', 'steps_per_epoch', 'expected'),
  [
    (0, 1, 10),
    (0, 11, 10),
    (0, 101, 11),
    (0, 390, 39),
    (0, 1251, 50),
    (22, 11, 22),
    (500, 11, 500),
  ],
)
def test_reports_follow_the_length_of_an_epoch(
  chosen, steps_per_epoch, expected
):
  assert steps_between_reports(chosen, steps_per_epoch) == expected


def test_line_has_the_known_metrics():
  assert report_line(22, 330, 2.0, VALUES, seconds_left=61.0) == (
    'step     22/330  epoch   2.00  train_loss 1.2346  train_accuracy 0.5000  '
    'learning_rate 0.01  images_per_sec 1234.6  eta 01:01'
  )
  skipped = report_line(22, 330, 2.0, VALUES | {'skipped_steps': 3.0})
  assert 'train_loss 1.2346  skipped_steps 3  train_accuracy' in skipped


def test_line_fits_a_narrow_terminal_but_keeps_the_loss():
  whole = report_line(22, 330, 2.0, VALUES)
  at_least = whole.index('  train_accuracy')
  for width in range(1, len(whole) + 10):
    line = report_line(22, 330, 2.0, VALUES, width=width)
    assert whole.startswith(line)
    assert at_least <= len(line) <= max(width, at_least)
    rest = whole[len(line) :].split('  ')  # what is left out did not fit
    assert line == whole or len(line) + 2 + len(rest[1]) > width
