"""depthwise_conv against XLA's convolution in float64, computed separately."""

import functools
import json
import re

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from convmixer_jax.kernels import BACKENDS, depthwise_conv, dispatch
from convmixer_jax.kernels.cpu import library
from convmixer_jax.kernels.xla import depthwise as depthwise_xla
from convmixer_jax.kernels.xla import shift_gpu

# The others need a GPU: test_gpu.py.
ANYWHERE = [name for name in BACKENDS if name != 'cuda']
SHAPES = [
  # batch, height, width, channels, kernel size
  (2, 8, 8, 16, 3),
  (1, 5, 9, 7, 5),  # neither square nor a multiple of a vector
  (2, 6, 5, 24, 4),  # an even kernel pads unevenly
  (1, 3, 2, 40, 7),  # the kernel is larger than the image
  (3, 4, 4, 1, 1),
  pytest.param((2, 17, 16, 33, 9), marks=pytest.mark.slow),
]


@pytest.fixture(params=[None, *ANYWHERE])
def backend(request):
  if request.param == 'cpu' and library.unavailable('depthwise', 3):
    pytest.skip('the CPU kernels need a C++ compiler')
  return request.param


def make(shape, dtype=np.float32, seed=0):
  batch, height, width, channels, size = shape
  rng = np.random.default_rng(seed)

  def draw(*dims):
    return jnp.asarray(rng.standard_normal(dims), dtype)

  image = (batch, height, width, channels)
  x, dy = draw(*image), draw(*image)
  return x, draw(size, size, channels) / size, draw(channels), dy


def reference(x, kernel, bias, dy):
  """y, dx, dkernel, dbias by automatic differentiation in float64."""

  def conv(x, kernel, bias):
    size, _, channels = kernel.shape
    pad = ((size - 1) // 2, size // 2)
    y = lax.conv_general_dilated(
      x,
      kernel.reshape(size, size, 1, channels),
      (1, 1),
      (pad, pad),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=channels,
    )
    return y + bias

  def wide(a):
    return jnp.asarray(np.asarray(a), jnp.float64)

  with jax.enable_x64(True):
    y, pull = jax.vjp(conv, wide(x), wide(kernel), wide(bias))
    results = (y, *pull(wide(dy)))
    return [np.asarray(a) for a in results]


def compute(x, kernel, bias, dy, backend):
  conv = functools.partial(depthwise_conv, backend=backend)

  @jax.jit
  def all_of(x, kernel, bias, dy):
    y, pull = jax.vjp(conv, x, kernel, bias)
    return y, *pull(dy)

  return all_of(x, kernel, bias, dy)


@pytest.mark.parametrize('shape', SHAPES)
def test_float32_equals_reference(shape, backend):
  arrays = make(shape)
  for value, expected in zip(
    compute(*arrays, backend), reference(*arrays), strict=True
  ):
    assert value.dtype == jnp.float32
    scale = np.abs(expected).max()
    np.testing.assert_allclose(value, expected, rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize('shape', SHAPES)
def test_bfloat16_sums_in_float32(shape, backend):
  arrays = make(shape, jnp.bfloat16)
  for value, expected in zip(
    compute(*arrays, backend), reference(*arrays), strict=True
  ):
    assert value.dtype == jnp.bfloat16
    # At most two roundings to 8 bits: before and after the bias.
    np.testing.assert_allclose(
      value.astype(jnp.float32), expected, rtol=2**-7, atol=1e-2
    )


def test_gradients_of_float32_parameters_are_float32(backend):
  x, kernel, bias, dy = make((2, 8, 8, 16, 3))

  def half(a):
    return a.astype(jnp.bfloat16)

  values = compute(half(x), kernel, bias, half(dy), backend)
  expected = reference(half(x), half(kernel), half(bias), half(dy))
  assert [v.dtype.name for v in values] == ['bfloat16'] * 2 + ['float32'] * 2
  for value, right in zip(values[2:], expected[2:], strict=True):
    np.testing.assert_allclose(value, right, rtol=1e-5, atol=1e-4)


def test_bias_is_optional(backend):
  x, kernel, bias, dy = make((2, 6, 6, 8, 3))
  conv = functools.partial(depthwise_conv, backend=backend)
  y, pull = jax.vjp(conv, x, kernel)
  expected = reference(x, kernel, 0 * bias, dy)
  for value, right in zip((y, *pull(dy)), expected, strict=False):
    np.testing.assert_allclose(value, right, rtol=0, atol=1e-5)


def test_gradient_is_the_same_inside_checkpoint_and_scan(backend):
  x, kernel, bias, _ = make((2, 6, 6, 8, 3))

  def loss(kernel, wrap):
    layer = wrap(lambda x: depthwise_conv(x, kernel, bias, backend=backend))
    last, _ = lax.scan(lambda x, _: (layer(x), None), x, length=3)
    return (last**2).sum()

  plain = jax.grad(loss)(kernel, lambda f: f)
  again = jax.jit(jax.grad(lambda kernel: loss(kernel, jax.checkpoint)))(kernel)
  np.testing.assert_allclose(again, plain, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('shape', SHAPES)
def test_shift_for_gpus_equals_reference(shape, dtype):
  x, kernel, bias, dy = make(shape, dtype)
  size = kernel.shape[0]
  pad_before = (size - 1) // 2
  y = jax.jit(shift_gpu.correlate, static_argnums=3)(
    x, kernel, bias, pad_before
  )
  gradients = jax.jit(shift_gpu.kernel_gradient, static_argnums=(2, 3))(
    x, dy, size, pad_before
  )
  expected, _, *expected_gradients = reference(x, kernel, bias, dy)
  assert y.dtype == dtype
  one_rounding = 2**-8 if dtype == jnp.bfloat16 else 0
  np.testing.assert_allclose(
    y.astype(jnp.float32), expected, rtol=one_rounding, atol=2e-5
  )
  for value, right in zip(gradients, expected_gradients, strict=True):
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, right, rtol=0, atol=1e-4)


@pytest.mark.parametrize('shape', SHAPES)
def test_kernel_gradient_of_cudnn_is_rounded_once(shape):
  x, kernel, bias, dy = make(shape, jnp.bfloat16)
  size = kernel.shape[0]
  pad_before = (size - 1) // 2
  value = depthwise_xla.kernel_gradient_cudnn(x, dy, size, pad_before)
  right = reference(x, kernel, bias, dy)[2]
  assert value.dtype == jnp.float32
  np.testing.assert_allclose(value, right, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize(
  ('size', 'cuda'), [(3, 'xla'), (7, 'xla'), (8, 'shift'), (9, 'shift')]
)
def test_default_depends_on_platform_and_kernel_size(size, cuda):
  x, kernel, bias, _ = make((1, 4, 4, 2, size))
  best = dispatch.default_backends(
    'depthwise_conv',
    (x, kernel, bias),
    {'pad_before': (size - 1) // 2},
  )
  assert best.get('cuda', best['default']) == cuda
  assert best['default'] == 'xla'
  assert best['cpu'] in ('cpu', 'shift')


@pytest.mark.parametrize(
  ('size', 'dtype', 'convolutions'),
  [
    (7, jnp.bfloat16, ['bf16', 'bf16', 'bf16']),
    (7, jnp.float32, ['f32', 'f32', 'f32']),
    (9, jnp.bfloat16, []),
  ],
)
def test_program_for_gpu_depends_on_kernel_size(size, dtype, convolutions):
  x, kernel, bias, dy = make((2, 12, 10, 8, size), dtype)

  @jax.jit
  def train(x, kernel, bias, dy):
    y, pull = jax.vjp(depthwise_conv, x, kernel, bias)
    return y, pull(dy)

  lowered = train.trace(x, kernel, bias, dy).lower(lowering_platforms=('cuda',))
  found = re.findall(
    r'stablehlo\.convolution.*-> tensor<[\dx]*x(\w+)>', lowered.as_text()
  )
  assert found == convolutions


SHARDED = """
import json
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax.kernels.xla import depthwise as xla
from convmixer_jax.kernels.xla import shift_gpu
from convmixer_jax.planning import hlo, hlo_costs

mesh = jax.make_mesh((4, 2), ('data', 'fsdp'), axis_types=(AxisType.Auto,) * 2)
rng = np.random.default_rng(0)
draw = lambda: jnp.asarray(rng.normal(size=(16, 6, 5, 24)), jnp.bfloat16)
x, dy = draw(), draw()
at = NamedSharding(mesh, P(('data', 'fsdp')))
found = {}
for name, function in {
  'cudnn': lambda x, dy: xla.kernel_gradient_cudnn(x, dy, 3, 1),
  'shift': lambda x, dy: shift_gpu.kernel_gradient(x, dy, 3, 1)[0],
}.items():
  arguments = jax.device_put((x, dy), at)
  compiled = jax.jit(function).lower(*arguments).compile()
  collectives = hlo_costs.collectives(hlo.parse(compiled.as_text()))
  value = np.asarray(compiled(*arguments))
  right = xla.kernel_gradient(x, dy, 3, 1)[0]
  found[name] = dict(
    collectives=[(each.kind, each.dtype) for each in collectives],
    error=float(np.abs(value - right).max()),
    scale=float(np.abs(right).max()))
print(json.dumps(found))
"""


@pytest.mark.slow
def test_kernel_gradients_are_summed_over_devices_in_float32():
  for found in json.loads(devices.run(SHARDED, 8)).values():
    assert found['collectives'] == [['all-reduce', 'f32']]
    # Each device's sum may be rounded, their sum is not.
    assert found['error'] < 2**-7 * found['scale']


@pytest.mark.parametrize('name', [None, 'xla'])
def test_program_for_tpu_has_the_convolution_of_xla(name):
  x, kernel, bias, dy = make((2, 6, 6, 8, 3), jnp.bfloat16)

  @jax.jit
  def gradient(x, kernel, bias, dy):
    conv = functools.partial(depthwise_conv, backend=name)
    return jax.vjp(conv, x, kernel, bias)[1](dy)

  text = jax.export.export(gradient, platforms=['tpu'])(
    x, kernel, bias, dy
  ).mlir_module()
  assert text.count('stablehlo.convolution') == 2
  assert 'custom_call' not in text
  assert 'stablehlo.while' not in text


def test_unknown_backend_is_refused():
  x, kernel, bias, _ = make((1, 4, 4, 2, 3))
  with pytest.raises(ValueError, match=r"'rocm' is unknown; use one of cpu"):
    depthwise_conv(x, kernel, bias, backend='rocm')


@pytest.mark.parametrize(
  'kernel_shape, bias_shape',
  [((3, 5, 2), (2,)), ((3, 3, 1), (2,)), ((3, 3), (2,)), ((3, 3, 2), (1,))],
)
def test_shapes_that_do_not_fit_are_refused(kernel_shape, bias_shape):
  with pytest.raises(ValueError, match='fit'):
    depthwise_conv(
      jnp.zeros((1, 4, 4, 2)), jnp.zeros(kernel_shape), jnp.zeros(bias_shape)
    )


def test_other_dtypes_are_refused():
  with pytest.raises(TypeError, match='int32; cast'):
    depthwise_conv(jnp.zeros((1, 4, 4, 2), int), jnp.zeros((3, 3, 2)))
