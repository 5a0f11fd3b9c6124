"""The GPU kernel that forms the activation's gradient, run by the emulator."""

import gpu_emulator
import ml_dtypes
import numpy as np
import pytest
from convolution_references import activate, correlate, random_array, slope_of
from gpu_emulator import SHAPES

from convmixer_jax.kernels.gpu import instances
from convmixer_jax.kernels.gpu.instances import Epilogue

pytestmark = pytest.mark.skipif(
  not gpu_emulator.COMPILER, reason='there is no g++'
)


@pytest.fixture(scope='module')
def emulator(tmp_path_factory):
  return gpu_emulator.Emulator(tmp_path_factory.mktemp('emulator'))


def run_gradient(emulator, shape, size, pad_before, activation, **options):
  order = options.pop('order', 0)
  rng = np.random.default_rng(size + shape[2])
  channels = shape[-1]
  buffers = {
    'x': random_array(rng, *shape),
    'z': 2 * random_array(rng, *shape),
    'kernel': random_array(rng, size, size, channels),
    'coefficients': rng.standard_normal((3, channels)).astype(np.float32),
    'y': np.full(shape, np.nan, ml_dtypes.bfloat16),
    'dy': np.full(shape, np.nan, ml_dtypes.bfloat16),
  }
  epilogue = Epilogue(activation, gradient=True)
  instance = instances.instance(
    'forward', shape, size, pad_before, epilogue, **options
  )
  emulator.run(instance, buffers, order)
  return buffers


def check_gradient(emulator, shape, size, pad_before, activation, **options):
  buffers = run_gradient(
    emulator, shape, size, pad_before, activation, **options
  )
  g, z = (buffers[name].astype(np.float64) for name in ('x', 'z'))
  p, q, r = buffers['coefficients'].astype(np.float64)
  slope = p * g + q * activate(z, activation) + r
  dy = slope * slope_of(activation, z)
  error = np.abs(buffers['dy'].astype(np.float64) - dy)
  # Both polynomials of GELU are within 1.3e-4.
  assert (error <= 2.0**-8 * np.abs(dy) + 5e-4 * (1 + np.abs(slope))).all()
  # What is convolved is the dy that was written.
  y = correlate(buffers['dy'], buffers['kernel'], np.zeros(1), pad_before)
  error = np.abs(buffers['y'].astype(np.float64) - (y + g))
  assert (error <= 2.0**-8 * (np.abs(y) + np.abs(y + g)) + 1e-4 * size).all()


def test_gradient_of_the_activation_is_formed_before(emulator):
  check_gradient(emulator, (3, 6, 21, 16), 3, 1, 'gelu', bands=2)


@pytest.mark.slow
@pytest.mark.parametrize('activation', ['relu', 'gelu'])
@pytest.mark.parametrize('shape', SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(('size', 'pad_before'), [(5, 2), (8, 4)])
def test_gradient_in_every_layout(
  emulator, size, pad_before, shape, activation
):
  order = size % gpu_emulator.NUM_ORDERS
  check_gradient(
    emulator, shape, size, pad_before, activation, bands=1, order=order
  )


@pytest.mark.slow
@pytest.mark.parametrize('bands', [2, 3, 4, 12])
def test_gradient_in_any_number_of_bands(emulator, bands):
  check_gradient(emulator, (5, 12, 25, 16), 5, 2, 'gelu', bands=bands)
  check_gradient(emulator, (1, 12, 133, 16), 5, 2, 'gelu', bands=bands)


@pytest.mark.slow
@pytest.mark.parametrize('activation', ['relu', 'gelu'])
def test_slope_of_any_value(emulator, activation):
  values = np.linspace(-9, 9, 1600).astype(ml_dtypes.bfloat16)
  values[:4] = 0, -1e30, 1e30, -300
  shape = (1, 1, 1, len(values))
  buffers = {
    'x': np.ones(shape, ml_dtypes.bfloat16),
    'z': values.reshape(shape),
    'kernel': np.zeros((3, 3, len(values)), ml_dtypes.bfloat16),
    'coefficients': np.float32([[1], [0], [0]]) + np.zeros_like(values, 'f4'),
    'y': np.zeros(shape, ml_dtypes.bfloat16),
    'dy': np.full(shape, np.nan, ml_dtypes.bfloat16),
  }
  epilogue = Epilogue(activation, gradient=True)
  emulator.run(instances.instance('forward', shape, 3, 1, epilogue), buffers)
  expected = slope_of(activation, values.astype(np.float64))
  np.testing.assert_allclose(
    buffers['dy'].astype(np.float64).ravel(),
    expected,
    rtol=2.0**-8,
    atol=1e-4,
  )
  assert (buffers['y'] == 1).all()
