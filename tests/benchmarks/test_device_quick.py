"""The command of the device benchmark with `--quick`."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
KERNEL_9, KERNEL_5 = '16/1, kernel 9', '16/1, kernel 5'
# The frameworks of the full benchmark, on the networks of `--quick`.
EXPECTED = [
  (framework, network)
  for network, frameworks in {
    KERNEL_9: ('PyTorch, eager, NCHW',),
    KERNEL_5: ('PyTorch, compile',),
  }.items()
  for framework in (
    *('this project', 'plain Flax', 'PyTorch, eager'),
    *frameworks,
  )
]


@pytest.mark.slow
def test_quick_runs_all_stages(tmp_path):
  directory = tmp_path / 'results'
  subprocess.run(
    [
      *(sys.executable, '-m', 'convmixer_jax', 'benchmark', 'device'),
      *('--quick', f'--output={directory}', '--budget_seconds=7200'),
    ],
    env=os.environ | {'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': ''},
    cwd=ROOT,
    check=True,
  )
  lines = (directory / 'rows.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  by_stage = {}
  for row in rows:
    by_stage.setdefault(row['stage'], []).append(row)
  checks = by_stage['correctness']
  assert all(row['passed'] for row in checks)
  assert {row['implementation'] for row in checks} > {'shift', 'default'}
  models = by_stage['models']
  for framework, network in EXPECTED:
    own = [
      row
      for row in models
      if (row['framework'], row['network']) == (framework, network)
    ]
    measured = {r['kind'] for r in own if r.get('images_per_sec', 0) > 0}
    reasons = [r for r in own if r.get('missing') or r.get('failed')]
    assert measured == {'train', 'forward'} or reasons
    assert all(row.get('finite', True) for row in own)
    if not framework.startswith('PyTorch'):
      assert not reasons
  others = [row for row in by_stage['networks'] if 'images_per_sec' in row]
  ours = [row for row in others if row['framework'] == 'this project, scan']
  assert {row['kind'] for row in ours} == {'train', 'forward'}
  (compared,) = by_stage['comparison']
  assert compared['parameters'] > 14e6 and compared['top1'] > 76
  assert compared['forward_images_per_sec'] > 0
  assert compared['train_images_per_sec'] > 0
  assert any(row.get('microseconds', 0) > 0 for row in by_stage['depthwise'])
  (training,) = [
    row for row in by_stage['cifar10'] if row.get('part') == 'training'
  ]
  assert training['ended'] and training['finite']
  assert 0 <= training['eval_accuracy'] <= 1
  assert sum(training['seconds'].values()) == pytest.approx(
    training['total_seconds'], rel=0.05
  )
  files = {path.name: path.stat().st_size for path in directory.iterdir()}
  assert {'results.md', 'throughput.png', 'log.txt'} < set(files)
  assert {f'compare.{end}' for end in ('csv', 'md', 'json', 'png')} < set(files)
  assert len(files) <= 12
  assert max(files.values()) < 16 * 2**20
