"""Data sets with more files than may be open: the same records, read slower."""

import pickle

import numpy as np
import pytest
import tiny_sets

from convmixer_jax import limits, notes
from convmixer_jax.data.sources import TfdsSource


@pytest.mark.parametrize('split', ['train', 'train[2:7]'])
def test_records_are_the_same_where_few_files_may_be_open(
  tmp_path, monkeypatch, capsys, split
):
  tiny_sets.write_set(tmp_path)
  kept_open = TfdsSource('tiny', split, str(tmp_path))
  expected = [kept_open[index] for index in range(len(kept_open))]
  monkeypatch.setattr(notes, '_said', set())
  monkeypatch.setattr(limits, 'raise_open_files', lambda: 200)
  source = TfdsSource('tiny', split, str(tmp_path))
  assert 'ulimit -n' in capsys.readouterr().err
  source = pickle.loads(pickle.dumps(source))  # as worker processes get it
  for index, example in enumerate(expected):
    found = source[index]
    assert found['label'] == example['label']
    np.testing.assert_array_equal(found['image'], example['image'])
