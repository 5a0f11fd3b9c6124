"""The GPU kernel that forms the activation's gradient, run by the emulator."""

import gpu_emulator
import ml_dtypes
import numpy as np
import pytest
from convolution_references import slope_of
from gpu_emulator import SHAPES
from gpu_emulator.checks import check

from convmixer_jax.kernels.gpu import instances
from convmixer_jax.kernels.gpu.instances import Epilogue

pytestmark = pytest.mark.skipif(
  not gpu_emulator.COMPILER, reason='there is no g++'
)


@pytest.fixture(scope='module')
def emulator(tmp_path_factory):
  return gpu_emulator.Emulator(tmp_path_factory.mktemp('emulator'))


def check_gradient(emulator, shape, size, pad_before, activation, **options):
  epilogue = Epilogue(activation, gradient=True)
  check(emulator, 'forward', shape, size, pad_before, epilogue, **options)


def test_gradient_of_the_activation_is_formed_before(emulator):
  check_gradient(emulator, (3, 6, 21, 16), 3, 1, 'gelu', bands=2)


@pytest.mark.slow
@pytest.mark.parametrize('activation', ['relu', 'gelu'])
@pytest.mark.parametrize('shape', SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(('size', 'pad_before'), [(5, 2), (8, 4)])
def test_gradient_in_every_layout(
  emulator, size, pad_before, shape, activation
):
  orders = [size % gpu_emulator.NUM_ORDERS]
  check_gradient(
    emulator, shape, size, pad_before, activation, bands=1, orders=orders
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
