"""A sweep that is killed at random ends as an undisturbed one."""

import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parents[2] / 'scripts'))
import sweep_torture


@pytest.mark.slow
def test_table_equals_undisturbed_sweep_after_kills(tmp_path, monkeypatch):
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path / 'compiled'))
  monkeypatch.setenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
  monkeypatch.setenv('XLA_FLAGS', '--xla_backend_optimization_level=0')
  differences = sweep_torture.torture(3, 1, tmp_path / 'sweeps', seeds=(0,))
  assert differences == 0
