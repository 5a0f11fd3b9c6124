"""The Python of docs/features.md runs, and learns what the page says."""

import re

import pytest
import snippets


@pytest.mark.slow
def test_probe_and_segmentation_head_of_the_page_learn(tmp_path, trained_run):
  (tmp_path / 'runs').mkdir()
  (tmp_path / 'runs' / 'digits').symlink_to(trained_run)
  out = snippets.run(snippets.blocks_of('docs/features.md'), tmp_path)
  accuracies = re.findall(r'^(\w+): odd or even, ([\d.]+) %$', out, re.M)
  assert [name for name, _ in accuracies] == [
    'stem',
    'block1',
    'block2',
    'last',
  ]
  assert float(accuracies[-1][1]) > 80
  overlaps = re.findall(r'^IoU of \w+, held out: ([\d.]+)$', out, re.M)
  # All that is bright as squares would give 0.64 and 0.
  assert len(overlaps) == 2 and sum(map(float, overlaps)) / 2 > 0.5
