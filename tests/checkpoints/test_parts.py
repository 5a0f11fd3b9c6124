"""The names of own parts: `parts.json`."""

import pytest
from etils import epath

from convmixer_jax.checkpoints import parts
from convmixer_jax.errors import UserError


@pytest.fixture
def workdir(tmp_path):
  """The directory of a run that was killed before it recorded its config."""
  path = epath.Path(tmp_path)
  parts.write_parts(path, {'optimizer': 'SGD'})
  return path


def test_start_that_was_killed_does_not_bind_the_next_one(workdir):
  parts.check_parts(workdir, {})
  parts.write_parts(workdir, {})
  (workdir / 'config.json').write_text('{}')
  parts.check_parts(workdir, {})
  with pytest.raises(UserError, match='without optimizer'):
    parts.check_parts(workdir, {'optimizer': 'SGD'})


def test_other_and_missing_parts_are_refused(workdir):
  (workdir / 'config.json').write_text('{}')
  parts.check_parts(workdir, {'optimizer': 'SGD'})
  with pytest.raises(UserError, match='another optimizer'):
    parts.check_parts(workdir, {'optimizer': 'Adam'})
  with pytest.raises(UserError, match="with optimizer = 'SGD', and none"):
    parts.check_parts(workdir, {})
