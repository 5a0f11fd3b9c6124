"""depthwise_conv against XLA's convolution in float64, computed apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from convmixer_jax.ops import IMPLEMENTATIONS, depthwise_conv, library

SHAPES = [
  # batch, height, width, channels, kernel size
  (2, 8, 8, 16, 3),
  (1, 5, 9, 7, 5),  # neither square nor a multiple of a vector
  (2, 6, 5, 24, 4),  # an even kernel pads unevenly
  (1, 3, 2, 40, 7),  # the kernel is larger than the image
  (3, 4, 4, 1, 1),
  (2, 17, 16, 33, 9),
]


@pytest.fixture(params=[None, *IMPLEMENTATIONS])
def implementation(request):
  if request.param == 'native' and not library.is_available('depthwise', 3):
    pytest.skip('the native kernels need a C++ compiler')
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


def compute(x, kernel, bias, dy, implementation):
  conv = functools.partial(depthwise_conv, implementation=implementation)

  @jax.jit
  def all_of(x, kernel, bias, dy):
    y, pull = jax.vjp(conv, x, kernel, bias)
    return y, *pull(dy)

  return all_of(x, kernel, bias, dy)


@pytest.mark.parametrize('shape', SHAPES)
def test_float32_equals_reference(shape, implementation):
  arrays = make(shape)
  for value, expected in zip(
    compute(*arrays, implementation), reference(*arrays), strict=True
  ):
    assert value.dtype == jnp.float32
    scale = np.abs(expected).max()
    np.testing.assert_allclose(value, expected, rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize('shape', SHAPES)
def test_bfloat16_sums_in_float32(shape, implementation):
  arrays = make(shape, jnp.bfloat16)
  for value, expected in zip(
    compute(*arrays, implementation), reference(*arrays), strict=True
  ):
    assert value.dtype == jnp.bfloat16
    # At most two roundings to 8 bits: before and after the bias.
    np.testing.assert_allclose(
      value.astype(jnp.float32), expected, rtol=2**-7, atol=1e-2
    )


def test_gradients_of_float32_parameters_are_float32(implementation):
  x, kernel, bias, dy = make((2, 8, 8, 16, 3))

  def half(a):
    return a.astype(jnp.bfloat16)

  values = compute(half(x), kernel, bias, half(dy), implementation)
  expected = reference(half(x), half(kernel), half(bias), half(dy))
  assert [v.dtype.name for v in values] == ['bfloat16'] * 2 + ['float32'] * 2
  for value, right in zip(values[2:], expected[2:], strict=True):
    np.testing.assert_allclose(value, right, rtol=1e-5, atol=1e-4)


def test_bias_is_optional(implementation):
  x, kernel, bias, dy = make((2, 6, 6, 8, 3))
  conv = functools.partial(depthwise_conv, implementation=implementation)
  y, pull = jax.vjp(conv, x, kernel)
  expected = reference(x, kernel, 0 * bias, dy)
  for value, right in zip((y, *pull(dy)), expected, strict=False):
    np.testing.assert_allclose(value, right, rtol=0, atol=1e-5)


def test_inside_checkpoint_and_scan(implementation):
  x, kernel, bias, _ = make((2, 6, 6, 8, 3))

  def loss(kernel, wrap):
    layer = wrap(
      lambda x: depthwise_conv(x, kernel, bias, implementation=implementation)
    )
    last, _ = lax.scan(lambda x, _: (layer(x), None), x, length=3)
    return (last**2).sum()

  plain = jax.grad(loss)(kernel, lambda f: f)
  again = jax.jit(jax.grad(lambda kernel: loss(kernel, jax.checkpoint)))(kernel)
  np.testing.assert_allclose(again, plain, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('name', [None, 'xla'])
def test_lowered_for_tpu_it_is_xlas_convolution(name):
  x, kernel, bias, dy = make((2, 6, 6, 8, 3), jnp.bfloat16)

  @jax.jit
  def gradient(x, kernel, bias, dy):
    conv = functools.partial(depthwise_conv, implementation=name)
    return jax.vjp(conv, x, kernel, bias)[1](dy)

  text = jax.export.export(gradient, platforms=['tpu'])(
    x, kernel, bias, dy
  ).mlir_module()
  assert text.count('stablehlo.convolution') == 2
  assert 'custom_call' not in text
  assert 'stablehlo.while' not in text


def test_an_unknown_implementation_is_named():
  x, kernel, bias, _ = make((1, 4, 4, 2, 3))
  with pytest.raises(ValueError, match=r"'cuda' is unknown; use one of native"):
    depthwise_conv(x, kernel, bias, implementation='cuda')


@pytest.mark.parametrize(
  'kernel_shape, bias_shape',
  [((3, 5, 2), (2,)), ((3, 3, 1), (2,)), ((3, 3), (2,)), ((3, 3, 2), (1,))],
)
def test_shapes_that_do_not_fit_are_refused(kernel_shape, bias_shape):
  with pytest.raises(ValueError, match='fit'):
    depthwise_conv(
      jnp.zeros((1, 4, 4, 2)), jnp.zeros(kernel_shape), jnp.zeros(bias_shape)
    )


def test_another_dtype_is_refused():
  with pytest.raises(TypeError, match='int32; cast'):
    depthwise_conv(jnp.zeros((1, 4, 4, 2), int), jnp.zeros((3, 3, 2)))
