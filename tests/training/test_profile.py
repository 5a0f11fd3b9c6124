"""A trace that cannot be taken or written is one error, its own."""

import jax
import pytest
from etils import epath

from convmixer_jax.errors import UserError
from convmixer_jax.training import profile


def test_trace_ends_with_the_loop_and_is_written(tmp_path):
  with profile.Profile(epath.Path(tmp_path), first_step=3) as trace:
    for step in range(4, 16):
      trace(step)
  assert list(tmp_path.rglob('*.xplane.pb'))


def test_trace_that_cannot_be_written_is_one_error(tmp_path, monkeypatch):
  def fail(path, content):
    raise UserError('the disk is full')

  monkeypatch.setattr(profile, 'write_whole', fail)
  with (
    pytest.raises(UserError, match='the disk is full'),
    profile.Profile(epath.Path(tmp_path), first_step=0) as trace,
  ):
    for step in range(1, 20):
      trace(step)


def test_trace_that_cannot_start_is_not_stopped(tmp_path, monkeypatch):
  def fail(directory):
    raise RuntimeError('another trace is being taken')

  monkeypatch.setattr(jax.profiler, 'start_trace', fail)
  with (
    pytest.raises(RuntimeError, match='another trace'),
    profile.Profile(epath.Path(tmp_path), first_step=0) as trace,
  ):
    for step in range(1, 20):
      trace(step)
