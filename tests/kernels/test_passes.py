"""What a block moves through the memory of a GPU, by the compiled step."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from convmixer_jax.planning import topologies

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    not topologies.has_cuda_plugin(), reason='no CUDA plugin is installed'
  ),
]


def count_passes(*arguments):
  done = subprocess.run(
    [sys.executable, ROOT / 'scripts' / 'count_passes.py', *arguments],
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
    timeout=1800,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
  ('variant', 'passes'), [('768_32', 33), ('1536_20', 33), ('1024_20', 35)]
)
def test_block_on_gpu_makes_few_passes_over_memory(variant, passes):
  found = count_passes('h100:1x1', variant, 'xla')
  assert found['passes'] <= passes
  # x, the two convolutions' results and what the product reads.
  assert found['saved'] < 4.1


@pytest.mark.parametrize('variant', ['768_32', '1536_20'])
def test_kernels_for_gpus_save_passes(variant):
  found = count_passes('h100:1x1', variant)
  assert found['passes'] <= 29
  assert found['saved'] < 4.1


def test_gpus_add_gradients_in_float32():
  found = count_passes('h100:1x2', '768_32')
  assert {dtype for _, dtype in found['collectives']} == {'f32'}
  assert found['passes'] <= 32
