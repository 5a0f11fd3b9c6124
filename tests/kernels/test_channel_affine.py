"""Factor and offset of channels, against NumPy in float64 and autodiff."""

import functools
import json

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import kernels
from convmixer_jax.kernels.cpu import library

SHAPES = (2, 3, 5), (3, 41, 283), (2, 3, 7, 64), (1, 1, 1), (0, 3, 5), (2, 0, 5)

PRINT_COLLECTIVES = """
import json, re
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax.kernels import channel_affine
mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
x = jax.device_put(2 * jnp.ones((8, 7, 20)), NamedSharding(mesh, P('data')))
weights = jax.device_put(jnp.ones((2, 20)), NamedSharding(mesh, P()))
def run(x, weights):
  y, pull = jax.vjp(channel_affine, x, *weights)
  return pull(y)
compiled = jax.jit(run).lower(x, weights).compile()
pattern = r'(all-gather|all-to-all|all-reduce|collective-permute)(?:-start)?\\('
print(json.dumps(dict(
  collectives=re.findall(pattern, compiled.as_text()),
  calls=compiled.as_text().count('custom_call_target="convmixer_products"'),
  values=[sorted(set(a.ravel().tolist())) for a in compiled(x, weights)],
)))
"""

needs_compiler = pytest.mark.skipif(
  library.unavailable('norm') is not None,
  reason='the CPU kernels need a C++ compiler',
)
BACKENDS = [pytest.param('cpu', marks=needs_compiler), 'xla', None]


def draw(shape):
  rng = np.random.default_rng(0)
  x, g = rng.normal(size=(2, *shape))
  scale, offset = rng.normal(size=(2, shape[-1]))
  return tuple(jnp.float32(array) for array in (x, scale, offset, g))


def results(x, scale, offset, g, **how):
  """Returns y, and the gradients of x, scale and offset."""
  affine = functools.partial(kernels.channel_affine, **how)
  y, pull = jax.vjp(affine, x, scale, offset)
  return y, *pull(g.astype(y.dtype))


def reference(x, scale, offset, g):
  """Returns what `results` does, in float64."""
  x, scale, offset, g = map(np.float64, (x, scale, offset, g))
  tokens = tuple(range(x.ndim - 1))
  return x * scale + offset, g * scale, (g * x).sum(tokens), g.sum(tokens)


@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('backend', BACKENDS)
def test_result_and_gradients_equal_definition(shape, backend):
  operands = draw(shape)
  found = results(*operands, backend=backend)
  for ours, exact in zip(found, reference(*operands), strict=True):
    np.testing.assert_allclose(ours, exact, rtol=1e-6, atol=3e-6)


@pytest.mark.parametrize('backend', BACKENDS)
def test_offset_may_be_left_out(backend):
  x, scale, _, g = draw((2, 9, 50))
  y, dx, dscale, doffset = results(x, scale, None, g, backend=backend)
  expected = reference(x, scale, np.zeros(50), g)
  for ours, exact in zip((y, dx, dscale), expected[:3], strict=True):
    np.testing.assert_allclose(ours, exact, rtol=1e-6, atol=3e-6)
  assert doffset is None


@pytest.mark.parametrize(
  'backend, operand_dtype, dtype',
  [
    ('xla', 'float32', 'float32'),
    (None, 'bfloat16', 'bfloat16'),
    (None, 'bfloat16', 'float32'),
  ],
)
def test_bits_are_those_of_autodiff_without_kernels(
  backend, operand_dtype, dtype
):
  x, scale, offset, g = draw((2, 9, 50))
  operands = x.astype(operand_dtype), scale, offset

  def plain(x, scale, offset):
    return (x.astype(jnp.float32) * scale + offset).astype(dtype)

  @jax.jit
  def expected(*operands):
    y, pull = jax.vjp(plain, *operands)
    return y, *pull(g.astype(dtype))

  @jax.jit
  def found(*operands):
    return results(*operands, g, backend=backend, dtype=dtype)

  pairs = zip(found(*operands), expected(*operands), strict=True)
  for ours, theirs in pairs:
    np.testing.assert_array_equal(ours, theirs, strict=True)


@needs_compiler
def test_images_have_gradients_of_their_own_under_vmap():
  x, scale, offset, g = draw((4, 2, 9, 20))
  found = jax.jit(jax.vmap(results, (0, None, None, 0)))(x, scale, offset, g)
  for image in range(4):
    exact = reference(x[image], scale, offset, g[image])
    for ours, expected in zip(found, exact, strict=True):
      np.testing.assert_allclose(ours[image], expected, rtol=1e-6, atol=3e-6)


@needs_compiler
def test_gpu_program_has_no_kernel_of_the_cpu():
  traced = jax.jit(results).trace(*draw((2, 3, 5)))
  found = {
    platform: 'convmixer_'
    in traced.lower(lowering_platforms=(platform,)).as_text()
    for platform in ('cpu', 'cuda')
  }
  assert found == {'cpu': True, 'cuda': False}


@needs_compiler
def test_sharded_images_are_not_moved():
  found = json.loads(devices.run(PRINT_COLLECTIVES, 4))
  assert found['collectives'] == ['all-reduce']  # of the gradients' sums
  assert found['calls'] == 1
  assert found['values'] == [[3], [8 * 7 * 6], [8 * 7 * 3]]
