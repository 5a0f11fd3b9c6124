"""GPU kernels, run on the CPU by an emulator, against float64 references."""

import gpu_emulator
import ml_dtypes
import numpy as np
import pytest
from convolution_references import (
  activate,
  random_array,
)
from gpu_emulator import SHAPES
from gpu_emulator.checks import check, draw_buffers

from convmixer_jax.kernels.gpu import instances, shared_memory
from convmixer_jax.kernels.gpu.instances import Epilogue

pytestmark = pytest.mark.skipif(
  not gpu_emulator.COMPILER, reason='there is no g++'
)

# Sizes of kernels, and the zeros before the image.
SIZES = [
  (size, pad_before)
  for size in instances.SIZES
  for pad_before in sorted({(size - 1) // 2, size // 2})
]


@pytest.fixture(scope='module')
def emulator(tmp_path_factory):
  return gpu_emulator.Emulator(tmp_path_factory.mktemp('emulator'))


def test_forward_is_the_correlation_rounded_once(emulator):
  check(emulator, 'forward', (3, 7, 21, 16), 4, 1, bands=1)


def test_kernel_gradient_is_that_of_the_correlation(emulator):
  check(emulator, 'kernel_gradient', (3, 7, 21, 16), 4, 1, bands=1)


@pytest.mark.slow
@pytest.mark.parametrize('shape', SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(('size', 'pad_before'), SIZES)
@pytest.mark.parametrize('kind', instances.KINDS)
def test_every_size_in_every_layout(emulator, kind, size, pad_before, shape):
  orders = [size % gpu_emulator.NUM_ORDERS]
  check(emulator, kind, shape, size, pad_before, orders=orders, bands=1)


@pytest.mark.slow
@pytest.mark.parametrize(
  'shape',
  [
    (1, 1, 1, 16),
    (1, 2, 3, 48),
    (33, 1, 16, 16),
    (2, 17, 32, 16),
    (1, 3, 64, 16),
    (2, 2, 65, 16),
    (1, 5, 128, 16),
    (70, 4, 4, 16),
  ],
  ids=str,
)
def test_any_size_of_images_and_batch(emulator, shape):
  for kind in instances.KINDS:
    check(emulator, kind, shape, 9, 4)
    check(emulator, kind, shape, 4, 2)


@pytest.mark.slow
@pytest.mark.parametrize('bands', [1, 2, 3, 4, 12])
def test_any_number_of_bands(emulator, bands):
  for kind in instances.KINDS:
    check(emulator, kind, (5, 12, 25, 16), 6, 3, bands=bands)


EPILOGUES = [
  Epilogue('gelu', sums=True),
  Epilogue('relu', sums=True),
  Epilogue(sums=True),
  Epilogue(residual=True),
  Epilogue('relu', scale=True),
  Epilogue('gelu', scale=True, residual=True),
]


@pytest.mark.slow
@pytest.mark.parametrize('epilogue', EPILOGUES, ids=str)
@pytest.mark.parametrize('shape', SHAPES.values(), ids=SHAPES)
def test_epilogue_is_what_follows_the_convolution(emulator, shape, epilogue):
  check(emulator, 'forward', shape, 5, 2, epilogue, orders=[1], bands=1)


@pytest.mark.slow
@pytest.mark.parametrize('activation', ['relu', 'gelu'])
def test_activation_of_any_value(emulator, activation):
  """A kernel of zeros leaves the bias, one value a channel."""
  values = np.linspace(-8, 8, 1600).astype(ml_dtypes.bfloat16)
  values[:4] = np.nan, -1e30, 1e30, -300
  shape = (1, 1, 1, len(values))
  buffers = {
    'x': np.zeros(shape, ml_dtypes.bfloat16),
    'kernel': np.zeros((3, 3, len(values)), ml_dtypes.bfloat16),
    'bias': values,
    'y': np.zeros(shape, ml_dtypes.bfloat16),
    'sums': np.zeros((2, len(values)), np.float32),
  }
  epilogue = Epilogue(activation, sums=True)
  emulator.run(instances.instance('forward', shape, 3, 1, epilogue), buffers)
  expected = activate(values.astype(np.float64), activation)
  np.testing.assert_allclose(
    buffers['sums'][0], expected, rtol=1e-5, atol=1.3e-4
  )


@pytest.mark.slow
@pytest.mark.parametrize('shape', SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
  ('kind', 'epilogue'),
  [
    ('kernel_gradient', Epilogue()),
    ('forward', Epilogue(residual=True)),
    ('forward', Epilogue('gelu', gradient=True)),
  ],
  ids=str,
)
def test_rows_under_way_change_no_bit(emulator, shape, kind, epilogue):
  rng = np.random.default_rng(0)
  channels = shape[-1]
  given = {
    name: random_array(rng, *shape) for name in ('x', 'dy', 'residual', 'z')
  } | {
    'kernel': random_array(rng, 4, 4, channels),
    'coefficients': rng.standard_normal((3, channels)).astype(np.float32),
  }
  results, stages = set(), set()
  for available in shared_memory.LEAST, shared_memory.OF_DATA_CENTRES:
    instance = instances.instance(
      kind, shape, 4, 1, epilogue, bands=2, shared_bytes=available
    )
    stages.add(dict(instance.defines)['STAGES'])
    buffers = given | {
      'y': np.full(shape, np.nan, ml_dtypes.bfloat16),
      'sums': np.full((17, channels), np.nan, np.float32),
    }
    buffers = {name: array.copy() for name, array in buffers.items()}
    emulator.run(instance, buffers, order=1)
    results.add(buffers['y' if kind == 'forward' else 'sums'].tobytes())
  assert len(stages) == 2
  assert len(results) == 1


@pytest.mark.slow
def test_image_has_the_same_bits_in_any_batch(emulator):
  rng = np.random.default_rng(0)
  x = random_array(rng, 21, 10, 14, 16)
  kernel = random_array(rng, 5, 5, 16)

  def run(x):
    y = np.zeros_like(x)
    instance = instances.instance('forward', x.shape, 5, 2)
    emulator.run(instance, {'x': x, 'kernel': kernel, 'y': y})
    return y.tobytes()

  assert run(x)[: x[:1].nbytes] == run(x[:1])


@pytest.mark.slow
@pytest.mark.parametrize('shape', list(SHAPES.values())[:3], ids=str)
def test_shared_memory_has_no_bank_conflict(emulator, shape):
  instance = instances.instance('forward', shape, 7, 3, bands=1)
  counts = emulator.run(instance, draw_buffers('forward', shape, 7))
  assert counts.shared_cycles == counts.shared_accesses
