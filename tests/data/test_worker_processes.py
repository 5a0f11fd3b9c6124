"""What keeps worker processes from being started, found before they are."""

import subprocess
import sys

import forks
import numpy as np
import pytest

from convmixer_jax import limits, notes
from convmixer_jax.data import pipeline, worker_processes
from convmixer_jax.data.digits import load_digits

GUARDED = """
import sys
sys.path.insert(0, {root!r})
from convmixer_jax.data.worker_processes import find_obstacle
def go():
  print(find_obstacle(2, 1))
if __name__ == '__main__':
  go()
"""
THREAD = """
  import threading
  thread = threading.Thread(target=go)
  thread.start()
  thread.join()
"""


def run(tmp_path, text):
  script = tmp_path / 'mine.py'
  script.write_text(text.format(root=str(forks.ROOT)))
  return subprocess.run(
    [sys.executable, script], check=True, capture_output=True, text=True
  ).stdout.strip()


@pytest.mark.parametrize('call', ['\n  go()', THREAD])
def test_a_script_needs_a_main_guard(tmp_path, call):
  guarded = GUARDED.replace('\n  go()', call)
  bare = guarded.replace("if __name__ == '__main__'", 'if True')
  assert run(tmp_path, guarded) == 'None'
  assert 'mine.py, which would train again' in run(tmp_path, bare)


def test_small_shared_memory_makes_threads_make_the_same_batches(
  config, monkeypatch, capsys
):
  class Pictures:
    num_classes, class_names = 2, ('a', 'b')

    def __len__(self):
      return 128

    def __getitem__(self, index):
      return {'image': np.full((8, 8, 3), index, np.uint8), 'label': index % 2}

  monkeypatch.setattr(notes, '_said', set())
  monkeypatch.setattr(limits, 'free_shared_memory', lambda: 2**16)
  config.input.num_workers = 0
  expected = next(pipeline.train_batches(Pictures(), config))
  assert not capsys.readouterr().err
  config.input.num_workers = 2
  found = next(pipeline.train_batches(Pictures(), config))
  np.testing.assert_array_equal(found['image'], expected['image'])
  (line,) = capsys.readouterr().err.splitlines()
  assert 'threads make the batches' in line
  assert '--shm-size=' in line


def test_shared_memory_of_eval_batches_is_counted_in_training(config):
  per_batch = pipeline._batch_bytes(
    load_digits('train'), config, process_count=1
  )
  assert per_batch == 64 * (8 * 8 * 3 + 8)
  assert worker_processes.batches_in_flight(2, 2) == 13


def test_few_processes_left_are_an_obstacle(monkeypatch):
  monkeypatch.setattr(limits, 'free_processes', lambda: 10)
  assert 'pids.max' in worker_processes.find_obstacle(2, 1)
