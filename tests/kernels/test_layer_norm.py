"""LayerNorm, against its definition in float64 and against Flax's."""

import functools
import json

import devices
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from convmixer_jax import kernels
from convmixer_jax.kernels.cpu import library

EPSILON = 1e-6
# The second has whole vectors and a part of one, and blocks of several tokens.
SHAPES = (2, 3, 5), (3, 41, 83), (2, 3, 7, 64), (1, 1, 1)

PRINT_COLLECTIVES = """
import json, re
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax.kernels import layer_norm
mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
rng = np.random.default_rng(0)
draw = lambda *shape: np.float32(rng.standard_normal(shape))
arguments = draw(8, 7, 20), draw(20), draw(20), draw(8, 7, 20)
def results(backend):
  def run(x, scale, offset, g):
    y, pull = jax.vjp(
      lambda *operands: layer_norm(*operands, epsilon=1e-6, backend=backend),
      x, scale, offset,
    )
    return y, *pull(g)
  return jax.jit(run)
specs = P('data'), P(), P(), P('data')
sharded = [
  jax.device_put(array, NamedSharding(mesh, spec))
  for array, spec in zip(arguments, specs)
]
compiled = results('cpu').lower(*sharded).compile()
text = compiled.as_text()
error = max(
  float(np.abs(np.asarray(a) - b).max())
  for a, b in zip(compiled(*sharded), results('xla')(*arguments))
)
pattern = r'(all-gather|all-to-all|all-reduce|collective-permute)(?:-start)?\\('
print(json.dumps(dict(
  collectives=re.findall(pattern, text),
  calls=len(re.findall('custom_call_target="convmixer_layer_norm', text)),
  error=error,
)))
"""

needs_compiler = pytest.mark.skipif(
  library.unavailable('layer_norm') is not None,
  reason='the CPU kernels need a C++ compiler',
)
BACKENDS = [pytest.param('cpu', marks=needs_compiler), 'xla', None]


def normalize(backend=None, dtype=None):
  return functools.partial(
    kernels.layer_norm, epsilon=EPSILON, backend=backend, dtype=dtype
  )


def flaxs(x, scale, offset, dtype=None):
  layer = nn.LayerNorm(epsilon=EPSILON, dtype=dtype, use_fast_variance=False)
  return layer.apply({'params': {'scale': scale, 'bias': offset}}, x)


def results(function, x, scale, offset, g):
  """Returns y, and the gradients of x, scale and offset."""
  y, pull = jax.vjp(function, x, scale, offset)
  return y, *pull(g.astype(y.dtype))


def draw(shape):
  rng = np.random.default_rng(0)
  x, g = 3 * rng.normal(size=shape) + 1, rng.normal(size=shape)
  scale, offset = rng.normal(size=(2, shape[-1]))
  return tuple(jnp.float32(array) for array in (x, scale, offset, g))


def reference(x, scale, offset, g):
  """Returns what `results` does, in float64."""
  x, scale, offset, g = map(np.float64, (x, scale, offset, g))
  inverse = 1 / np.sqrt(x.var(-1, keepdims=True) + EPSILON)
  n = (x - x.mean(-1, keepdims=True)) * inverse
  s = g * scale
  dx = s - s.mean(-1, keepdims=True) - n * (s * n).mean(-1, keepdims=True)
  tokens = tuple(range(x.ndim - 1))
  return n * scale + offset, dx * inverse, (g * n).sum(tokens), g.sum(tokens)


@pytest.mark.parametrize('shape', SHAPES[:-1], ids=str)
@pytest.mark.parametrize('backend', BACKENDS)
def test_result_and_gradients_equal_definition(shape, backend):
  operands = draw(shape)
  found = results(normalize(backend), *operands)
  for ours, exact in zip(found, reference(*operands), strict=True):
    np.testing.assert_allclose(ours, exact, rtol=3e-6, atol=5e-6)


@pytest.mark.parametrize('shape', SHAPES, ids=str)
@needs_compiler
def test_kernels_equal_automatic_gradients_of_flax(shape):
  operands = draw(shape)
  ours, theirs = (
    results(f, *operands) for f in (normalize('cpu'), flaxs)
  )  # fmt: skip
  # Of one channel the gradient is 0, and 1000 times a rounding error is left.
  for found, expected in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize('shape', [(0, 3, 5), (2, 0, 5), (2, 3, 0)], ids=str)
@pytest.mark.parametrize('backend', BACKENDS)
def test_no_tokens_or_channels_are_no_error(shape, backend):
  y, dx, *sums = results(normalize(backend), *draw(shape))
  assert y.shape == dx.shape == shape
  for found in sums:
    np.testing.assert_array_equal(found, np.zeros(shape[-1]))


@pytest.mark.parametrize('backend', BACKENDS)
def test_large_mean_does_not_make_the_variance_inexact(backend):
  x, scale, offset, g = draw((2, 9, 50))
  x = x + 1000
  y, *_ = results(normalize(backend), x, scale, offset, g)
  exact, *_ = reference(x, scale, offset, g)
  np.testing.assert_allclose(y, exact, atol=2e-4)


@pytest.mark.parametrize('backend', BACKENDS)
def test_nan_remains_in_its_token(backend):
  x, scale, offset, g = draw((2, 9, 50))
  x = x.at[1, 4, 7].set(jnp.nan)
  y, dx, *_ = results(normalize(backend), x, scale, offset, g)
  expected = np.zeros(x.shape, bool)
  expected[1, 4] = True
  np.testing.assert_array_equal(np.isnan(y), expected)
  np.testing.assert_array_equal(np.isnan(dx), expected)


@pytest.mark.parametrize(
  'backend, operand_dtype, dtype',
  [
    ('xla', 'float32', 'float32'),
    (None, 'bfloat16', 'bfloat16'),
    (None, 'bfloat16', 'float32'),
    (None, 'float32', 'bfloat16'),
  ],
)
def test_bits_are_those_of_flax_without_kernels(backend, operand_dtype, dtype):
  x, scale, offset, g = draw((2, 9, 50))
  operands = x.astype(operand_dtype), scale, offset, g
  found, expected = (
    jax.jit(functools.partial(results, f))(*operands)
    for f in (normalize(backend, dtype), functools.partial(flaxs, dtype=dtype))
  )
  for ours, theirs in zip(found, expected, strict=True):
    np.testing.assert_array_equal(ours, theirs, strict=True)


@needs_compiler
def test_images_have_gradients_of_their_own_under_vmap():
  x, scale, offset, g = draw((4, 2, 9, 20))
  gradients = functools.partial(results, normalize())
  found = jax.jit(jax.vmap(gradients, (0, None, None, 0)))(x, scale, offset, g)
  for image in range(4):
    exact = reference(x[image], scale, offset, g[image])
    for ours, expected in zip(found, exact, strict=True):
      np.testing.assert_allclose(ours[image], expected, rtol=3e-6, atol=5e-6)


@needs_compiler
def test_exported_gradient_takes_any_batch():
  def run(x, scale, offset, g):
    norm = functools.partial(kernels.layer_norm, epsilon=EPSILON, backend='cpu')
    return jax.vjp(norm, x, scale, offset)[1](g)

  (batch,) = export.symbolic_shape('b')
  shapes = (batch, 9, 6), (6,), (6,), (batch, 9, 6)
  # Exported programs need not keep the calls of kernels: JAX asks whether.
  calls = [
    export.DisabledSafetyCheck.custom_call(library.target(name))
    for name in library.FUNCTIONS['layer_norm']
  ]
  exported = export.export(jax.jit(run), disabled_checks=calls)(
    *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
  )
  rng = np.random.default_rng(0)
  operands = [
    jnp.asarray(rng.normal(size=shape), jnp.float32)
    for shape in ((40, 9, 6), (6,), (6,), (40, 9, 6))
  ]
  for found, expected in zip(
    exported.call(*operands), run(*operands), strict=True
  ):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_unknown_backend_is_refused():
  with pytest.raises(ValueError, match="layer_norm: backend 'gpu' is unknown"):
    normalize('gpu')(*draw((2, 3, 5))[:3])


@needs_compiler
def test_gpu_program_has_no_kernel_of_the_cpu():
  gradients = jax.jit(functools.partial(results, normalize()))
  traced = gradients.trace(*draw((2, 3, 5)))
  calls = {
    platform: traced.lower(lowering_platforms=(platform,)).as_text()
    for platform in ('cpu', 'cuda')
  }
  found = {name: 'convmixer_' in text for name, text in calls.items()}
  assert found == {'cpu': True, 'cuda': False}


@needs_compiler
def test_sharded_images_are_not_moved():
  found = json.loads(devices.run(PRINT_COLLECTIVES, 4))
  # Those of the gradients of scale and offset, as one or as two.
  assert set(found['collectives']) == {'all-reduce'}
  assert len(found['collectives']) <= 2
  assert found['calls'] == 2
  assert found['error'] < 2e-5
