"""BatchNorm with residual and ReLU after it, against autodiff and NumPy."""

import functools
import json

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import kernels
from convmixer_jax.kernels.cpu import library

EPSILON = 1e-5
# Odd sizes; more channels than are worked on together; hardly any values.
SHAPES = [(4, 3, 5, 6), (4, 4, 4, 300), (4, 1, 1, 1)]


@pytest.fixture(params=[None, 'cpu', 'xla'])
def backend(request):
  if request.param == 'cpu' and library.unavailable('batch_norm'):
    pytest.skip('the CPU kernels need a C++ compiler')
  return request.param


def draw(dtype=jnp.float32, shape=SHAPES[0]):
  keys = jax.random.split(jax.random.key(0), 4)
  x, residual = (
    jax.random.normal(key, shape).astype(dtype) for key in keys[:2]
  )
  scale, offset = (jax.random.normal(key, shape[-1:]) for key in keys[2:])
  return 2 * x + 1, 1 + scale, offset, residual


def plain(x, scale, offset, residual, relu, group_size):
  """Computes the same in the straightforward way, for autodiff."""
  groups = x.reshape(-1, group_size, *x.shape[1:])
  mean = groups.mean((1, 2, 3), keepdims=True)
  var = jnp.square(groups - mean).mean((1, 2, 3), keepdims=True)
  y = (groups - mean) / jnp.sqrt(var + EPSILON) * scale + offset
  y = y.reshape(x.shape)
  if residual is not None:
    y += residual
  return jnp.maximum(y, 0) if relu else y


@pytest.mark.parametrize(
  ('relu', 'has_residual', 'group_size', 'shape'),
  [
    (True, True, 2, SHAPES[0]),
    (True, False, 4, SHAPES[0]),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in [
        (False, True, 4, SHAPES[0]),
        (False, False, 2, SHAPES[0]),
        (True, True, 4, SHAPES[1]),
        (True, False, 1, SHAPES[1]),
        (False, True, 4, SHAPES[2]),
      ]
    ),
  ],
)
def test_result_and_gradients_equal_autodiff(
  relu, has_residual, group_size, shape, backend
):
  *arrays, residual = draw(shape=shape)
  residual = residual if has_residual else None
  call = functools.partial(
    kernels.batch_norm,
    relu=relu,
    group_size=group_size,
    epsilon=EPSILON,
    backend=backend,
  )
  g = np.random.default_rng(1).normal(size=arrays[0].shape).astype(np.float32)

  @functools.partial(jax.jit, static_argnums=0)
  def with_gradients(function, *arrays):
    y, pull = jax.vjp(function, *arrays)
    return y, pull(g)

  y, gradients = with_gradients(
    lambda *arrays: call(*arrays)[0], *arrays, residual
  )
  expected, plain_gradients = with_gradients(
    functools.partial(plain, relu=relu, group_size=group_size),
    *arrays,
    residual,
  )
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    gradients,
    plain_gradients,
  )


def test_statistics_are_those_of_each_group(backend):
  *arrays, _ = draw(shape=(4, 40, 50, 19))
  _, mean, var = kernels.batch_norm(
    *arrays, relu=True, group_size=2, epsilon=EPSILON, backend=backend
  )
  groups = np.float64(arrays[0]).reshape(2, -1, 19)
  np.testing.assert_allclose(mean, groups.mean(1), rtol=1e-6)
  np.testing.assert_allclose(var, groups.var(1), rtol=2e-6)


def test_nan_stays_nan(backend):
  x = jnp.ones((1, 2, 2, 3)).at[..., 1].set(jnp.nan)
  y, *_ = kernels.batch_norm(
    *(x, jnp.ones(3), jnp.zeros(3)),
    relu=True,
    group_size=1,
    epsilon=EPSILON,
    backend=backend,
  )
  np.testing.assert_array_equal(np.isnan(y), np.isnan(x))


def test_gradients_under_vmap_equal_those_of_each_batch(backend):
  def gradients(x, scale, offset, residual):
    def loss(*arrays):
      y, *_ = kernels.batch_norm(
        *arrays, relu=True, group_size=2, epsilon=EPSILON, backend=backend
      )
      return jnp.sum(y * jnp.cos(x))

    return jax.grad(loss, (0, 1, 2, 3))(x, scale, offset, residual)

  x, scale, offset, residual = draw()
  batches = jnp.stack([x, 3 - x])
  found = jax.vmap(gradients, (0, None, None, None))(
    batches, scale, offset, residual
  )
  for i, batch in enumerate(batches):
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
      [array[i] for array in found],
      list(gradients(batch, scale, offset, residual)),
    )


def test_unknown_backend_is_refused():
  *arrays, _ = draw()
  with pytest.raises(ValueError, match="backend 'cuda' is unknown; use one of"):
    kernels.batch_norm(
      *arrays, relu=True, group_size=2, epsilon=EPSILON, backend='cuda'
    )


@pytest.mark.slow
def test_bfloat16_is_rounded_once():
  x, scale, offset, residual = draw(jnp.bfloat16)
  call = functools.partial(
    kernels.batch_norm, relu=True, group_size=4, epsilon=EPSILON
  )
  y, *_ = call(x, scale, offset, residual)
  exact, *_ = call(
    x.astype(jnp.float32), scale, offset, residual.astype(jnp.float32)
  )
  assert y.dtype == jnp.bfloat16
  np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))
  factor, shift = jnp.float32([2, 0.3] * 3), jnp.float32([0.1] * 6)
  z = kernels.affine(x, factor, shift, residual, relu=True)
  expected = np.float32(x) * factor + shift + np.float32(residual)
  np.testing.assert_array_equal(z, np.maximum(expected, 0).astype(jnp.bfloat16))


SHARDED = """
import json, re, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax import kernels

mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
rng = np.random.default_rng(0)
draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
x, residual, g = (draw(8, 3, 5, 40) for _ in range(3))
channels = draw(40), draw(40)

def run(backend, group_size, x, channels, residual, g):
  def norm(x, channels, residual):
    return kernels.batch_norm(
      x, *channels, residual, relu=True, group_size=group_size, epsilon=1e-5,
      backend=backend)
  (y, mean, var), pull = jax.vjp(norm, x, channels, residual)
  return y, mean, var, pull((g, 0 * mean, 0 * var))

put = lambda a: jax.device_put(a, NamedSharding(mesh, P('data')))
found = {}
for group_size in (2, 8):
  arguments = put(x), channels, put(residual), put(g)
  compiled = jax.jit(run, static_argnums=(0, 1)).lower(
    sys.argv[1], group_size, *arguments).compile()
  values = compiled(*arguments)
  expected = run('xla', group_size, x, channels, residual, g)
  text = compiled.as_text()
  found[group_size] = dict(
    moved=re.findall(r' (all-gather|all-to-all|collective-permute)', text),
    error=max(
      float(np.abs(np.asarray(a) - np.asarray(b)).max())
      for a, b in zip(*map(jax.tree.leaves, (values, expected)))),
    rows=values[0].sharding.shard_shape(x.shape)[0])
print(json.dumps(found))
"""


@pytest.mark.parametrize(
  'name', ['cpu', pytest.param('xla', marks=pytest.mark.slow)]
)
def test_sharded_batch_has_the_statistics_of_its_groups_and_is_not_moved(name):
  if name == 'cpu' and library.unavailable('batch_norm'):
    pytest.skip('the CPU kernels need a C++ compiler')
  for found in json.loads(devices.run(SHARDED, 4, name)).values():
    assert found['moved'] == []
    assert found['rows'] == 2
    assert found['error'] < 1e-4
