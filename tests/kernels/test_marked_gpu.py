"""The tests marked `gpu`, with an emulator in place of a GPU's driver.

So that none of them fails where there is a GPU for another reason than the GPU.
Some are run: those that compile little, one of each kind. Two devices share a
batch.
"""

import os
import subprocess
import sys

import forks
import gpu_emulator
import pytest

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not gpu_emulator.COMPILER, reason='there is no g++'),
]

CHOSEN = (
  'test_gpu.py::test_default_in_bfloat16_is_the_kernels',
  'test_gpu.py::test_loops_and_recomputation_give_the_gradients_of_the_network',
  'test_gpu.py::test_sharded_batch_gives_the_gradients_of_the_whole',
  'test_gpu.py::test_backends_equal_references'
  '[depthwise [5,19,19,48] k4-float32]',
  'gpu/test_on_gpu.py::test_bits_are_the_same_each_time[(3, 13, 25, 32, 8)]',
)


def test_tests_for_gpus_pass_on_an_emulated_gpu():
  directory = forks.ROOT / 'tests'
  path = [str(directory / 'support'), os.environ.get('PYTHONPATH', '')]
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'pytest', '-q', '-p', 'gpu_emulator.as_gpu'),
      *('-p', 'no:cacheprovider', '-m', 'gpu'),
      *(str(directory / 'kernels' / name) for name in CHOSEN),
    ],
    cwd=forks.ROOT,
    env=os.environ
    | {
      'PYTHONPATH': os.pathsep.join(filter(None, path)),
      'XLA_FLAGS': '--xla_force_host_platform_device_count=2',
    },
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  # One of them has two forms; and none is skipped.
  assert f'{len(CHOSEN) + 1} passed in' in done.stdout
