"""Every GPU kernel on random images, run on the CPU by an emulator.

With as many rows under way as on the GPUs of data centres, or as on those that
have less shared memory; in three orders of threads, whose bits are equal.
"""

import gpu_emulator
import numpy as np
import pytest
from gpu_emulator.checks import check

from convmixer_jax.kernels.gpu import instances, shared_memory
from convmixer_jax.kernels.gpu.instances import Epilogue

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not gpu_emulator.COMPILER, reason='there is no g++'),
]

KERNELS = {
  'kernel gradient': ('kernel_gradient', Epilogue()),
  'forward': ('forward', Epilogue()),
  'residual': ('forward', Epilogue(residual=True)),
} | {
  f'{activation} {name}': ('forward', Epilogue(activation, **fields))
  for activation in ('relu', 'gelu')
  for name, fields in (
    ('sums', {'sums': True}),
    ('scale residual', {'scale': True, 'residual': True}),
    ('gradient', {'gradient': True}),
  )
}
ORDERS = range(gpu_emulator.NUM_ORDERS)


def draw_shape(rng, batches):
  """Draws images of up to 14 rows, of each layout of strips as often."""
  widths = (1, 16), (17, 32), (33, 64), (65, 140)
  first, last = widths[rng.integers(len(widths))]
  width = int(rng.integers(first, last + 1))
  batch = int(rng.integers(1, max(2, batches * 16 // max(16, width))))
  return batch, int(rng.integers(1, 15)), width, 16


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('size', instances.SIZES)
def test_random_images_equal_float64_in_any_order_of_threads(
  tmp_path, kernel, size
):
  kind, epilogue = KERNELS[kernel]
  seed = 100 * size + list(KERNELS).index(kernel)
  rng = np.random.default_rng(seed)
  emulator = gpu_emulator.Emulator(tmp_path)
  fewest = shared_memory.LEAST
  if epilogue.gradient:  # is not used where there is less
    fewest = shared_memory.OF_DATA_CENTRES
  for shared_bytes in (fewest, shared_memory.limit('9.0')):
    check(
      emulator,
      *(kind, draw_shape(rng, 20), size),
      int(rng.choice([(size - 1) // 2, size // 2])),
      epilogue,
      orders=ORDERS,
      seed=seed,
      bands=None,
      shared_bytes=shared_bytes,
    )
