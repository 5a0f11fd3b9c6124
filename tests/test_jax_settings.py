"""Settings of JAX in the shell or in Python: no effect, and a note."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import jax_settings, notes

SETTINGS = {
  'jax_enable_x64': True,
  'jax_default_matmul_precision': 'float32',
  'jax_default_prng_impl': 'rbg',
  'jax_numpy_dtype_promotion': 'strict',
  'jax_numpy_rank_promotion': 'raise',
  'jax_transfer_guard': 'disallow',
  'jax_debug_nans': True,
  'jax_disable_jit': True,
}


@jax_settings.default_settings()
def figures():
  key = jax.random.key(3)
  x = jax.random.normal(key, (3, 2)) + jnp.arange(2)
  return np.asarray(jax.jit(jnp.divide)(x, jnp.zeros(2))), np.asarray(x)


@pytest.fixture(autouse=True)
def said(monkeypatch):
  monkeypatch.setattr(notes, '_said', set())


@pytest.mark.parametrize('name', SETTINGS)
def test_figures_are_the_same_and_the_setting_is_named(name, capsys):
  expected = figures()
  assert not capsys.readouterr().err
  before = getattr(jax.config, name)
  jax.config.update(name, SETTINGS[name])
  try:
    found = figures()
    assert getattr(jax.config, name) == SETTINGS[name]
  finally:
    jax.config.update(name, before)
  for ours, theirs in zip(found, expected, strict=True):
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)
  (line,) = capsys.readouterr().err.splitlines()
  assert f'{name} = {SETTINGS[name]}' in line


def test_setting_of_a_thread_has_no_effect(capsys):
  with jax.debug_nans(True), jax.default_matmul_precision('highest'):
    figures()
    assert jax.config.jax_debug_nans
    assert jax.config.jax_default_matmul_precision == 'highest'
  assert not jax.config.jax_debug_nans
  assert jax.config.jax_default_matmul_precision is None
  assert 'jax_debug_nans = True' in capsys.readouterr().err


def test_a_command_sets_the_defaults_for_all_its_threads(capsys):
  jax.config.update('jax_numpy_rank_promotion', 'raise')
  try:
    jax_settings.use_default_settings()
    assert jax.config.jax_numpy_rank_promotion == 'allow'
  finally:
    jax.config.update('jax_numpy_rank_promotion', 'allow')
  assert 'jax_numpy_rank_promotion = raise' in capsys.readouterr().err


def test_settings_are_as_before_after_an_error():
  jax.config.update('jax_debug_nans', True)
  try:
    with pytest.raises(ZeroDivisionError), jax_settings.default_settings():
      assert not jax.config.jax_debug_nans
      raise ZeroDivisionError
    assert jax.config.jax_debug_nans
  finally:
    jax.config.update('jax_debug_nans', False)
