"""GPU kernels, run on the CPU by an emulator, against float64 references."""

import gpu_emulator
import ml_dtypes
import numpy as np
import pytest
from convolution_references import (
  activate,
  correlate,
  kernel_gradient,
  random_array,
)
from gpu_emulator import SHAPES

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


def run_forward(emulator, instance, size, pad_before, order=0):
  shape = instance.launches[0].integers[:4]
  rng = np.random.default_rng(size + 10 * shape[2])
  channels = shape[-1]
  buffers = {
    'x': random_array(rng, *shape),
    'kernel': random_array(rng, size, size, channels),
    'bias': random_array(rng, channels),
    'factor': rng.standard_normal(channels).astype(np.float32),
    'residual': random_array(rng, *shape),
    'y': np.full(shape, np.nan, ml_dtypes.bfloat16),
    'sums': np.full((2, channels), np.nan, np.float32),
  }
  counts = emulator.run(instance, buffers, order)
  y = correlate(buffers['x'], buffers['kernel'], buffers['bias'], pad_before)
  return buffers, y, counts


def assert_rounded(actual, expected, scale):
  """Expects float32 sums of terms of about `scale`, rounded to bfloat16."""
  actual = actual.astype(np.float64)
  error = np.abs(actual - expected) - 2.0**-8 * np.abs(expected)
  assert error.max() < 1e-5 * scale


def check_forward(emulator, shape, size, pad_before, order=0, bands=None):
  instance = instances.instance('forward', shape, size, pad_before, bands=bands)
  buffers, y, _ = run_forward(emulator, instance, size, pad_before, order)
  assert_rounded(buffers['y'], y, scale=size)


def check_kernel_gradient(
  emulator, shape, size, pad_before, order=0, bands=None
):
  rng = np.random.default_rng(size + 10 * shape[2])
  buffers = {
    'x': random_array(rng, *shape),
    'dy': random_array(rng, *shape),
    'sums': np.full((size**2 + 1, shape[-1]), np.nan, np.float32),
  }
  instance = instances.instance(
    'kernel_gradient', shape, size, pad_before, bands=bands
  )
  emulator.run(instance, buffers, order)
  expected = kernel_gradient(buffers['x'], buffers['dy'], size, pad_before)
  np.testing.assert_allclose(
    buffers['sums'], expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max()
  )


def test_forward_is_the_correlation_rounded_once(emulator):
  check_forward(emulator, (3, 7, 21, 16), 4, 1, bands=1)


def test_kernel_gradient_is_that_of_the_correlation(emulator):
  check_kernel_gradient(emulator, (3, 7, 21, 16), 4, 1, bands=1)


@pytest.mark.slow
@pytest.mark.parametrize('shape', SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(('size', 'pad_before'), SIZES)
def test_every_forward_instance(emulator, size, pad_before, shape):
  order = size % gpu_emulator.NUM_ORDERS
  check_forward(emulator, shape, size, pad_before, order, bands=1)


@pytest.mark.slow
@pytest.mark.parametrize('shape', SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(('size', 'pad_before'), SIZES)
def test_every_kernel_gradient_instance(emulator, size, pad_before, shape):
  order = size % gpu_emulator.NUM_ORDERS
  check_kernel_gradient(emulator, shape, size, pad_before, order, bands=1)


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
  for check in check_forward, check_kernel_gradient:
    check(emulator, shape, 9, 4)
    check(emulator, shape, 4, 2)


@pytest.mark.slow
@pytest.mark.parametrize('bands', [1, 2, 3, 4, 12])
def test_any_number_of_bands(emulator, bands):
  for check in check_forward, check_kernel_gradient:
    check(emulator, (5, 12, 25, 16), 6, 3, bands=bands)


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
  size, pad_before = 5, 2
  instance = instances.instance(
    'forward', shape, size, pad_before, epilogue, bands=1
  )
  buffers, y, _ = run_forward(emulator, instance, size, pad_before, order=1)
  if epilogue.sums:
    assert_rounded(buffers['y'], y, scale=size)
    a = activate(buffers['y'].astype(np.float64), epilogue.activation)
    sums = np.stack([a.sum((0, 1, 2)), np.square(a).sum((0, 1, 2))])
    # GELU is a polynomial, within 1.3e-4, and much nearer in the mean.
    count = y[..., 0].size
    np.testing.assert_allclose(
      buffers['sums'], sums, rtol=1e-4, atol=4e-5 * count
    )
    return
  if epilogue.activation or epilogue.scale:
    factor = buffers['factor'].astype(np.float64) if epilogue.scale else 1
    y = activate(y, epilogue.activation) * factor
  if epilogue.residual:
    y = y.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)
    y = y + buffers['residual'].astype(np.float64)
  # A sum rounded to bfloat16 before may round the other way.
  error = np.abs(buffers['y'].astype(np.float64) - y)
  assert (error <= 2.0**-7 * np.abs(y) + 0.03).all()
  assert (error <= 2.0**-8 * np.abs(y) + 3e-4).mean() > 0.99


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
def test_thread_order_changes_no_bit(emulator):
  instance = instances.instance(
    'forward', SHAPES['two strips'], 7, 3, Epilogue('gelu', sums=True), bands=1
  )
  results = set()
  for order in range(gpu_emulator.NUM_ORDERS):
    buffers, _, _ = run_forward(emulator, instance, 7, 3, order)
    results.add(buffers['y'].tobytes() + buffers['sums'].tobytes())
  assert len(results) == 1


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
  _, _, counts = run_forward(emulator, instance, 7, 3)
  assert counts.shared_cycles == counts.shared_accesses
