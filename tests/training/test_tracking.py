"""The callbacks of docs/tracking.md, without a server."""

import sqlite3

import pytest
import snippets

PAGE = 'docs/tracking.md'


def block_with(text):
  (block,) = [block for block in snippets.blocks_of(PAGE) if text in block]
  return block


@pytest.mark.slow
def test_weights_and_biases_get_the_metrics_offline(tmp_path):
  pytest.importorskip('wandb')
  environment = {
    'WANDB_MODE': 'offline',
    'WANDB_SILENT': 'true',
    'WANDB_CONFIG_DIR': str(tmp_path),
    'WANDB_CACHE_DIR': str(tmp_path),
    'WANDB_DATA_DIR': str(tmp_path),
  }
  snippets.run([block_with('import wandb')], tmp_path, environment)
  (log,) = tmp_path.glob('wandb/offline-run-*/run-a.wandb')
  written = log.read_bytes()
  assert b'eval_accuracy' in written and b'train_loss' in written


@pytest.mark.slow
def test_mlflow_gets_the_metrics_in_a_file(tmp_path):
  pytest.importorskip('mlflow')
  path = tmp_path / 'mlflow.db'
  environment = {'MLFLOW_TRACKING_URI': f'sqlite:///{path}'}
  snippets.run([block_with('import mlflow')], tmp_path, environment)
  database = sqlite3.connect(path)
  (value,) = database.execute(
    "select value from metrics where key = 'eval_accuracy'"
  ).fetchone()
  (status,) = database.execute('select status from runs').fetchone()
  database.close()
  assert 0 < value <= 1 and status == 'FINISHED'
