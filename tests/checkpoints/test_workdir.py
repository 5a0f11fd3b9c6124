"""The directory of a run; what is refused in one is in test_loop.py."""

import pytest
from etils import epath

from convmixer_jax.checkpoints import workdir
from convmixer_jax.errors import UserError


def test_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
  path = epath.Path(tmp_path) / 'metrics.csv'
  workdir.write_whole(path, 'one')
  workdir.write_whole(path, b'two')

  class Killed(BaseException):
    pass

  def killed(*_):
    raise Killed

  monkeypatch.setattr(type(path), 'replace', killed)
  with pytest.raises(Killed):
    workdir.write_whole(path, 'three')
  assert path.read_text() == 'two'


def test_failed_write_is_reported_and_leaves_nothing(tmp_path):
  (tmp_path / 'config.json').mkdir()
  with pytest.raises(UserError, match='cannot be written to'):
    workdir.write_whole(epath.Path(tmp_path) / 'config.json', '{}')
  assert [path.name for path in tmp_path.iterdir()] == ['config.json']


def test_directory_of_a_process_killed_at_its_start_counts_as_new(
  config, tmp_path
):
  """Before there is a config, there is nothing to refuse."""
  (tmp_path / 'config.json.tmp').write_text('{"seed')
  workdir.check_workdir(epath.Path(tmp_path), config)
  workdir.describe_run(epath.Path(tmp_path), config, None, 'table')
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {'config.json', 'versions.json', 'parameters.txt'}


def test_a_run_that_lacks_a_key_is_refused_by_it(config, tmp_path):
  older = config.copy_and_resolve_references()
  del older.new_head
  older.old_key = True
  workdir.describe_run(epath.Path(tmp_path), older, None, 'table')
  message = (
    r'a run with another config: new_head \(missing -> False\), '
    r'old_key \(True -> missing\); give the old values'
  )
  with pytest.raises(UserError, match=message) as error:
    workdir.check_workdir(epath.Path(tmp_path), config)
  assert '\n' not in str(error.value)


def test_a_run_without_the_name_of_its_network_is_refused(config, tmp_path):
  del config.model.name
  workdir.describe_run(epath.Path(tmp_path), config, None, 'table')
  with pytest.raises(
    UserError, match=r'config of a run \(it has no model.name'
  ):
    workdir.read_config(epath.Path(tmp_path))
