"""The choice of GPU kernels and of their launches."""

import pytest

from convmixer_jax.kernels.gpu import instances, shared_memory
from convmixer_jax.kernels.gpu.instances import Epilogue

SHAPES = [
  (64, 32, 32, 768),
  (64, 32, 32, 1536),
  (64, 16, 16, 1024),
  (1, 32, 32, 1536),
  (3, 7, 7, 16),
  (5, 45, 77, 48),
  (2, 1, 300, 32),
  (1, 200, 1, 16),
]


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('kind', instances.KINDS)
@pytest.mark.parametrize('size', instances.SIZES)
def test_launch_fits_every_gpu(kind, shape, size):
  for pad_before in {(size - 1) // 2, size // 2}:
    instance = instances.instance(kind, shape, size, pad_before)
    launch = instance.launches[0]
    assert launch.shared_bytes <= shared_memory.LEAST
    assert launch.shared_bytes % 16 == 0
    assert launch.block == (512, 1, 1)
    assert launch.integers[:4] == shape
    defines = dict(instance.defines)
    bands = launch.integers[4]
    assert 1 <= bands <= shape[1]
    rows = -(-shape[1] // bands)
    assert rows * (bands - 1) < shape[1] <= rows * bands
    columns = 16 * defines['TILES']
    blocks = -(-shape[2] // columns)
    assert launch.grid[0] == shape[3] // 16 * blocks
    assert defines['HAS_NEIGHBOURS'] == (blocks > 1)
    images = 16 // defines['TILES']
    assert (launch.grid[1] - 1) * images < shape[0] * bands
    assert shape[0] * bands <= launch.grid[1] * images


def test_kernel_gradient_has_partial_sums_for_every_block_of_pixels():
  instance = instances.instance('kernel_gradient', (64, 32, 32, 768), 7, 3)
  main, total = instance.launches
  blocks = main.grid[0] * main.grid[1]
  assert instance.workspace_bytes == blocks * 16 * (7 * 7 + 1) * 4
  assert total.integers == (blocks * 16 // 768, (7 * 7 + 1) * 768)
  assert total.grid[0] * total.block[0] >= total.integers[1]


def test_small_batch_is_divided_into_bands_of_rows():
  one = instances.instance('forward', (1, 32, 32, 256), 9, 4)
  many = instances.instance('forward', (256, 32, 32, 256), 9, 4)
  assert one.launches[0].integers[4] > 1
  assert many.launches[0].integers[4] == 1


def test_forward_takes_the_arrays_of_its_epilogue():
  shape = (16, 32, 32, 768)

  def pointers(epilogue):
    instance = instances.instance('forward', shape, 7, 3, epilogue)
    return [launch.pointers for launch in instance.launches]

  assert pointers(Epilogue()) == [('x', 'kernel', 'bias', 'y')]
  assert pointers(Epilogue('gelu', sums=True)) == [
    ('x', 'kernel', 'bias', 'y', 'workspace'),
    ('workspace', 'sums'),
  ]
  assert pointers(Epilogue('relu', scale=True, residual=True)) == [
    ('x', 'kernel', 'bias', 'factor', 'residual', 'y')
  ]
  assert pointers(Epilogue('relu', gradient=True)) == [
    ('x', 'kernel', 'bias', 'z', 'coefficients', 'y', 'dy')
  ]


@pytest.mark.parametrize('shape', SHAPES)
def test_gradient_fits_gpus_of_data_centres(shape):
  instance = instances.instance(
    'forward', shape, 9, 4, Epilogue('gelu', gradient=True)
  )
  # Of compute capability 8.0; 9.0 and 10.0 have 227.
  assert instance.launches[0].shared_bytes <= 163 * 1024


GPUS = ('8.0', 5), ('8.6', 3), ('8.9', 3), ('9.0', 5), ('10.0', 5)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize(('capability', 'most'), GPUS)
def test_more_rows_are_under_way_where_there_is_shared_memory(
  shape, capability, most
):
  available = shared_memory.limit(capability)
  for kind, epilogue in (
    ('forward', Epilogue()),
    ('forward', Epilogue(residual=True)),
    ('kernel_gradient', Epilogue()),
    ('forward', Epilogue('gelu', gradient=True)),
  ):
    instance = instances.instance(
      kind, shape, 9, 4, epilogue, shared_bytes=available
    )
    stages = dict(instance.defines)['STAGES']
    if epilogue.gradient:
      # On A100 four, if few strips lie side by side, or blocks.
      assert most - 1 <= stages <= most
    elif available == shared_memory.LEAST:
      assert stages == (
        6 if epilogue == Epilogue() and kind == 'forward' else 3
      )
    else:
      assert stages == 6
    if available > shared_memory.LEAST:
      assert instance.launches[0].shared_bytes <= available


def test_equal_modules_have_equal_defines():
  first = instances.instance('forward', (64, 32, 32, 768), 7, 3)
  second = instances.instance('forward', (9, 50, 20, 16), 7, 3)
  third = instances.instance('forward', (9, 50, 40, 16), 7, 3)
  assert first.defines == second.defines != third.defines


@pytest.mark.parametrize(
  ('arguments', 'reason'),
  [
    (('forward', (8, 32, 32, 24), 7, 3), '24 channels are not a multiple'),
    (('forward', (8, 32, 32, 32), 11, 5), '11 x 11'),
    (('forward', (8, 32, 32, 32), 2, 0), '2 x 2'),
    (('forward', (8, 32, 32, 32), 7, 2), 'padding of 2'),
    (('forward', (0, 32, 32, 32), 7, 3), 'empty'),
    (('forward', (1, 2**15, 2**11, 32), 7, 3), r'over 2\^30'),
    (('kernel_gradient', (2**22, 1, 1, 16), 3, 1), 'too large'),
    (('forward', (1, 1, 1, 2**26), 9, 4), r'kernel of 9 x 9 .* over 2\^31'),
  ],
)
def test_unsupported_is_refused_with_reason(arguments, reason):
  assert instances.supported(*arguments) is not None
  with pytest.raises(ValueError, match=reason):
    instances.instance(*arguments)


def test_float32_is_left_to_xla():
  reason = instances.supported(
    'forward', (8, 32, 32, 32), 7, 3, dtype='float32'
  )
  assert 'float32' in reason
  assert instances.supported('forward', (8, 32, 32, 32), 7, 3) is None


@pytest.mark.parametrize(
  ('kind', 'epilogue'),
  [
    ('backward', Epilogue()),
    ('forward', Epilogue('tanh')),
    ('kernel_gradient', Epilogue('gelu')),
    ('forward', Epilogue(sums=True, residual=True)),
    ('forward', Epilogue('relu', residual=True, gradient=True)),
  ],
)
def test_impossible_request_is_an_error(kind, epilogue):
  with pytest.raises(ValueError, match=r'unknown|no epilogue|excludes? '):
    instances.supported(kind, (8, 32, 32, 32), 7, 3, epilogue)
