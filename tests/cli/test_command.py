"""What a command does before it reads its flags."""

import importlib
import os

import pytest

from convmixer_jax.cli import command


@pytest.fixture
def refusal(monkeypatch):
  """Makes the import of JAX fail; returns the error."""
  error = ValueError('bad value')

  def refuse(_):
    raise error

  monkeypatch.setattr(importlib, 'import_module', refuse)
  for name in os.environ:
    if name.startswith('JAX_'):
      monkeypatch.delenv(name)
  return error


def test_setting_that_jax_refuses_is_one_line(refusal, monkeypatch, capsys):
  monkeypatch.setenv('JAX_ENABLE_X64', 'perhaps')
  with pytest.raises(SystemExit):
    command.import_jax()
  line = 'error: JAX cannot be imported (bad value); unset the variable\n'
  assert capsys.readouterr().err == line


def test_installation_that_does_not_work_keeps_its_traceback(refusal):
  with pytest.raises(ValueError) as error:
    command.import_jax()
  assert error.value is refusal
