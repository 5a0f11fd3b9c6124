"""Attention, against its definition in float64 and automatic gradients."""

import functools
import json

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from convmixer_jax import kernels
from convmixer_jax.kernels.cpu import library

# Images, tokens, 3, heads and channels; the last has several blocks of queries,
# and channels that are no whole vectors.
SHAPES = (2, 7, 3, 3, 4), (1, 101, 3, 2, 20)

PRINT_COLLECTIVES = """
import json, re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax.kernels import attention
mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
rng = np.random.default_rng(0)
shapes = (8, 7, 3, 2, 4), (8, 7, 2, 4)
arguments = [np.float32(rng.standard_normal(shape)) for shape in shapes]
def results(backend):
  def run(qkv, g):
    y, pull = jax.vjp(lambda qkv: attention(qkv, backend=backend), qkv)
    return y, *pull(g)
  return jax.jit(run)
sharding = NamedSharding(mesh, P('data'))
sharded = [jax.device_put(array, sharding) for array in arguments]
compiled = results('cpu').lower(*sharded).compile()
pattern = 'all-gather|all-to-all|all-reduce|collective-permute'
error = max(
  float(np.abs(np.asarray(a) - b).max())
  for a, b in zip(compiled(*sharded), results('xla')(*arguments))
)
found = re.findall(pattern, compiled.as_text())
print(json.dumps(dict(collectives=found, error=error)))
"""

needs_compiler = pytest.mark.skipif(
  library.unavailable('attention') is not None,
  reason='the CPU kernels need a C++ compiler',
)


@pytest.fixture(params=[pytest.param('cpu', marks=needs_compiler), 'xla', None])
def attention(request):
  return functools.partial(kernels.attention, backend=request.param)


@pytest.fixture(scope='module', params=SHAPES, ids=str)
def operands(request):
  rng = np.random.default_rng(0)
  batch, tokens, _, heads, channels = request.param
  g = rng.normal(size=(batch, tokens, heads, channels))
  qkv = 2 * rng.normal(size=request.param)
  return np.float32(qkv), np.float32(3 * g)


def reference(qkv):
  q, k, v = np.moveaxis(np.float64(qkv), 2, 0)
  scores = np.einsum('bnhd,bmhd->bhnm', q, k) / np.sqrt(q.shape[-1])
  return np.einsum('bhnm,bmhd->bnhd', scipy.special.softmax(scores, -1), v)


def by_jax(qkv):
  return jax.nn.dot_product_attention(*jnp.moveaxis(qkv, 2, 0))


def test_result_equals_definition(operands, attention):
  qkv, _ = operands
  np.testing.assert_allclose(
    attention(qkv), reference(qkv), rtol=2e-6, atol=3e-6
  )


def test_result_is_the_same_where_a_gradient_is_asked_for(operands, attention):
  qkv, _ = operands
  y, _ = jax.vjp(attention, qkv)
  np.testing.assert_array_equal(y, attention(qkv))


def test_scores_too_large_for_exp_are_no_problem(operands, attention):
  qkv = np.array(operands[0])
  qkv[:, :, 0] *= 100
  np.testing.assert_allclose(attention(qkv), reference(qkv), atol=5e-4)


def test_nan_remains_nan(operands, attention):
  qkv = np.array(operands[0])
  qkv[0, 3, 0, 1, 2] = np.nan  # of one query
  expected = np.zeros(qkv.shape[:2] + qkv.shape[3:], bool)
  expected[0, 3, 1] = True
  np.testing.assert_array_equal(np.isnan(attention(qkv)), expected)


def test_gradients_equal_differences_of_the_definition(operands, attention):
  qkv, g = operands
  (gradient,) = jax.vjp(attention, qkv)[1](g)
  for number in range(3):  # queries, keys, values
    rng = np.random.default_rng(number)
    step = np.zeros(qkv.shape)
    step[:, :, number] = 1e-5 * rng.normal(size=g.shape)
    ends = [np.sum(np.float64(g) * reference(qkv + s * step)) for s in (1, -1)]
    expected = np.sum(np.float64(gradient) * step)
    assert (ends[0] - ends[1]) / 2 == pytest.approx(expected, rel=1e-4)


def test_gradients_equal_automatic_ones(operands, attention):
  qkv, g = operands
  ours, theirs = (jax.vjp(f, qkv)[1](g)[0] for f in (attention, by_jax))
  # Sums of terms that cancel: some are near 0, the largest about 20.
  np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=5e-5)


def test_bfloat16_is_near_float32(operands, attention):
  qkv, g = (jnp.bfloat16(x) for x in operands)
  y, pull = jax.vjp(attention, qkv)
  y_wide, pull_wide = jax.vjp(attention, qkv.astype(jnp.float32))
  results = [y, *pull(g)]
  expected = [y_wide, *pull_wide(g.astype(jnp.float32))]
  for result, near in zip(results, expected, strict=True):
    assert result.dtype == jnp.bfloat16
    error = jnp.linalg.norm(result.astype(jnp.float32) - near)
    assert error < 0.02 * jnp.linalg.norm(near)


def test_unknown_backend_is_refused():
  with pytest.raises(ValueError, match="attention: backend 'gpu' is unknown"):
    kernels.attention(jnp.zeros(SHAPES[0]), backend='gpu')


@needs_compiler
def test_gpu_program_has_no_kernel_of_the_cpu():
  def gradient(qkv):
    return jax.grad(lambda qkv: kernels.attention(qkv).sum())(qkv)

  qkv = jax.ShapeDtypeStruct(SHAPES[0], jnp.float32)
  lowered = {
    platform: jax.jit(gradient).trace(qkv).lower(lowering_platforms=(platform,))
    for platform in ('cpu', 'cuda')
  }
  calls = {
    name: 'convmixer_attention' in program.as_text()
    for name, program in lowered.items()
  }
  assert calls == {'cpu': True, 'cuda': False}


@needs_compiler
def test_sharded_images_are_not_moved():
  found = json.loads(devices.run(PRINT_COLLECTIVES, 4))
  assert found['collectives'] == []
  assert found['error'] < 1e-5
