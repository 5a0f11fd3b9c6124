"""A dry run says what a run needs, and writes nothing."""

import re

import pytest
from etils import epath

from convmixer_jax.checkpoints.workdir import read_config
from convmixer_jax.errors import UserError
from convmixer_jax.planning.dry_run import dry_run


@pytest.mark.slow
def test_dry_run_of_a_new_run_writes_nothing(config, tmp_path, monkeypatch):
  monkeypatch.setenv('TMPDIR', str(tmp_path))
  text = dry_run(config, str(tmp_path / 'run'))
  assert not any(tmp_path.iterdir())
  assert f'{tmp_path}/run (new)' in text
  assert re.search(r'Memory +[\d,]+ MiB on each device', text)
  assert re.search(r'ms a step \([\d,]+ images/s\)', text)
  assert ' for 22 steps, if the data keep up' in text
  assert text.endswith('the run can start; nothing was written')
  assert 'Directory' not in dry_run(config, None)
  assert not any(tmp_path.iterdir())


def test_dry_run_of_a_run_counts_the_steps_that_are_left(trained_run):
  before = sorted(path for path in trained_run.rglob('*'))
  text = dry_run(read_config(epath.Path(trained_run)), str(trained_run))
  assert 'all steps made' in text and ' for 0 steps' in text
  assert sorted(path for path in trained_run.rglob('*')) == before


def test_dry_run_refuses_what_training_refuses(config, tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='not empty and not a run directory'):
    dry_run(config, str(tmp_path))
  config.batch_size = 10**6
  with pytest.raises(UserError, match='is more than the 1442'):
    dry_run(config, None)
