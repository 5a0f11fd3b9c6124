"""`metrics.csv`: rows by step, merged, and cut where a run resumes."""

import pytest
from etils import epath

from convmixer_jax import files
from convmixer_jax.checkpoints.metrics_table import MetricsTable, read_table
from convmixer_jax.errors import UserError


def test_rows_of_a_step_are_merged_and_read_back(tmp_path):
  path = epath.Path(tmp_path) / 'metrics.csv'
  assert read_table(path) == {}
  table = MetricsTable(path, ['loss', 'accuracy'], last_step=0)
  table.write(1, {'loss': 0.1 + 0.2})
  table.write(2, {'loss': 2.0})
  table.write(2, {'accuracy': 0.5})
  assert read_table(path) == {
    1: {'step': 1, 'loss': 0.1 + 0.2},
    2: {'step': 2, 'loss': 2.0, 'accuracy': 0.5},
  }
  assert path.read_text().startswith('step,loss,accuracy\n')


def test_resuming_drops_rows_after_the_checkpoint(tmp_path):
  path = epath.Path(tmp_path) / 'metrics.csv'
  table = MetricsTable(path, ['loss'], last_step=0)
  for step in range(1, 6):
    table.write(step, {'loss': step})
  table = MetricsTable(path, ['loss'], last_step=3)
  table.write(4, {'loss': 40.0})
  assert [row['loss'] for row in read_table(path).values()] == [1, 2, 3, 40]


def test_rows_are_kept_until_stored_where_writes_are_rare(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(files, 'seconds_between_writes', lambda path: 1e6)
  path = epath.Path(tmp_path) / 'metrics.csv'
  table = MetricsTable(path, ['loss'], last_step=0)
  for step in range(1, 4):
    table.write(step, {'loss': step})
  assert list(read_table(path)) == [1]
  table.store()
  assert list(read_table(path)) == [1, 2, 3]


def test_failed_upload_is_retried_and_is_an_error_before_a_checkpoint(
  tmp_path, monkeypatch
):
  path = epath.Path(tmp_path) / 'metrics.csv'
  table = MetricsTable(path, ['loss'], last_step=0)
  with monkeypatch.context() as patch:
    patch.setattr(files, 'is_in_bucket', lambda path: True)

    def fail(path, content):
      raise OSError('the bucket is gone')

    patch.setattr(files, 'write', fail)
    table.write(1, {'loss': 1.0})
    with pytest.raises(UserError, match='the bucket is gone'):
      table.store()
  table.store()
  assert list(read_table(path)) == [1]
