"""Trains until the run is cut off, as by a machine that is taken away."""

from collections.abc import Iterator

import pytest

from convmixer_jax.training import loop


class Stopped(Exception):
  """What the machine is taken away with."""


class _CutOff(Iterator):
  def __init__(self, batches, left):
    self._batches, self._left = batches, left

  def __next__(self):
    if self._left == 0:
      raise Stopped
    self._left -= 1
    return next(self._batches)

  def close(self):
    self._batches.close()


def train_until(step, monkeypatch, config, workdir):
  """Trains as usual, but is cut off after so many steps of this start."""
  open_batches = loop.open_train_batches

  def open_fewer(*arguments):
    return _CutOff(open_batches(*arguments), step)

  with monkeypatch.context() as patch, pytest.raises(Stopped):
    patch.setattr(loop, 'open_train_batches', open_fewer)
    loop.train_and_evaluate(config, workdir)
