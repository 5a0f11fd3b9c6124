"""BatchNorm with activation, bias and residual, against plain JAX in float64.

Each backend: `None` is the platform's default.
"""

import functools
import json
import math

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import kernels
from convmixer_jax.kernels.cpu import library
from convmixer_jax.kernels.xla import norm as norm_xla

EPSILON = 1e-5
# Odd sizes; more channels than are worked on together; a single value.
SHAPES = [(4, 3, 5, 19), (6, 4, 4, 300), (2, 1, 1, 1)]


@pytest.fixture(params=[None, 'cpu', 'xla'])
def backend(request):
  if request.param == 'cpu' and library.unavailable('norm'):
    pytest.skip('the CPU kernels need a C++ compiler')
  return request.param


def draw(shape):
  rng = np.random.default_rng(0)
  images = [rng.normal(size=shape) * 2 + 0.5 for _ in range(3)]
  channels = [rng.normal(size=shape[-1:]) for _ in range(3)]
  return images, channels


def activate(name, x):
  return jax.nn.relu(x) if name == 'relu' else jax.nn.gelu(x, approximate=False)


def plain_batch_norm(
  x, bias, scale, offset, residual, *, activation, group_size
):
  a = activate(activation, x + bias)
  groups = a.reshape(-1, group_size, *a.shape[1:])
  mean = groups.mean((1, 2, 3), keepdims=True)
  var = groups.var((1, 2, 3), keepdims=True)
  y = (groups - mean) / jnp.sqrt(var + EPSILON) * scale + offset
  channels = x.shape[-1]
  return (
    y.reshape(x.shape) + residual,
    mean.reshape(-1, channels),
    var.reshape(-1, channels),
  )


def in_float64(function, arguments, g, **kwargs):
  with jax.enable_x64(True):
    arguments = [jnp.asarray(array, jnp.float64) for array in arguments]
    (y, *rest), pull = jax.vjp(lambda *a: function(*a, **kwargs), *arguments)
    gradients = pull((jnp.asarray(g), *map(jnp.zeros_like, rest)))
    return jax.device_get([y, *rest, *gradients])


@pytest.mark.parametrize(
  'shape',
  [
    SHAPES[0],
    *(pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES[1:]),
  ],
)
@pytest.mark.parametrize('activation', kernels.ACTIVATIONS)
@pytest.mark.parametrize(
  'group_size', [pytest.param(1, marks=pytest.mark.slow), 2]
)
def test_training_equals_reference(backend, shape, activation, group_size):
  (x, residual, g), (bias, scale, offset) = draw(shape)
  arguments = x, bias, scale, offset, residual
  how = {'activation': activation, 'group_size': group_size}
  expected = in_float64(plain_batch_norm, arguments, g, **how)

  def ours(*arguments):
    return kernels.activation_batch_norm(
      *arguments, epsilon=EPSILON, backend=backend, **how
    )

  values, pull = jax.vjp(ours, *map(jnp.float32, arguments))
  zeros = map(jnp.zeros_like, values[1:])
  found = [*values, *pull((jnp.float32(g), *zeros))]
  # A group of a single value has no variance: all is rounding there.
  rtol, atol = (1e-4, 2e-5) if math.prod(shape[1:3]) > 1 else (1e-2, 5e-3)
  for array, reference in zip(found, expected, strict=True):
    size = np.abs(reference).max()
    np.testing.assert_allclose(array, reference, rtol, atol * max(size, 1.0))


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('activation', kernels.ACTIVATIONS)
def test_evaluation_equals_reference(backend, shape, activation):
  (x, residual, g), (bias, factor, shift) = draw(shape)
  arguments = x, bias, factor, shift, residual

  def plain(x, bias, factor, shift, residual):
    return (activate(activation, x + bias) * factor + shift + residual,)

  expected = in_float64(plain, arguments, g)
  y, pull = jax.vjp(
    lambda *a: kernels.activation_affine(
      *a, activation=activation, backend=backend
    ),
    *map(jnp.float32, arguments),
  )
  for array, reference in zip([y, *pull(g)], expected, strict=True):
    np.testing.assert_allclose(array, reference, rtol=1e-4, atol=1e-4)


def test_bias_and_residual_may_be_missing(backend):
  (x, _, _), (_, scale, offset) = draw(SHAPES[0])
  how = {
    'activation': 'gelu',
    'group_size': 4,
    'epsilon': EPSILON,
    'backend': backend,
  }

  def loss(x, scale, offset, *extra):
    y, *_ = kernels.activation_batch_norm(x, *extra[:1], scale, offset, **how)
    return jnp.sum(y * jnp.cos(x))

  arguments = [jnp.float32(array) for array in (x, scale, offset)]
  none = jax.value_and_grad(loss, (0, 1, 2))(*arguments, None)
  zero = jax.value_and_grad(loss, (0, 1, 2))(*arguments, jnp.zeros(19))
  jax.tree.map(np.testing.assert_array_equal, none, zero)


def test_no_gradient_flows_through_the_statistics(backend):
  (x, _, _), (bias, scale, offset) = draw(SHAPES[0])

  def statistics(x):
    _, mean, var = kernels.activation_batch_norm(
      x,
      jnp.float32(bias),
      jnp.float32(scale),
      jnp.float32(offset),
      activation='relu',
      group_size=2,
      epsilon=EPSILON,
      backend=backend,
    )
    return jnp.sum(mean + var)

  np.testing.assert_array_equal(jax.grad(statistics)(jnp.float32(x)), 0.0)


@pytest.mark.parametrize('activation', kernels.ACTIVATIONS)
def test_bfloat16_is_rounded_once(backend, activation):
  (x, residual, g), (bias, scale, offset) = draw((4, 5, 6, 40))
  x, residual, g = (jnp.bfloat16(array) for array in (x, residual, g))
  bias, scale, offset = (jnp.float32(array) for array in (bias, scale, offset))

  def run(x, residual, g):
    (y, mean, var), pull = jax.vjp(
      lambda *a: kernels.activation_batch_norm(
        *a,
        activation=activation,
        group_size=2,
        epsilon=EPSILON,
        backend=backend,
      ),
      *(x, bias, scale, offset, residual),
    )
    return y, mean, var, *pull((g, jnp.zeros_like(mean), jnp.zeros_like(var)))

  narrow = run(x, residual, g)
  wide = run(*(array.astype(jnp.float32) for array in (x, residual, g)))
  for a, b in zip(narrow, wide, strict=True):
    tolerance = 2**-8 if a.dtype == jnp.bfloat16 else 1e-5
    np.testing.assert_allclose(
      a.astype(jnp.float32), b, rtol=tolerance, atol=1e-4
    )


def test_gelu_equals_float64(backend):
  x = np.concatenate([np.linspace(-12, 12, 2401), [0.0, 1e-30, 50.0, -50.0]])
  value, pull = jax.vjp(
    lambda x: kernels.activation_affine(
      x,
      None,
      jnp.ones(1),
      jnp.zeros(1),
      activation='gelu',
      backend=backend,
    ),
    jnp.float32(x).reshape(1, -1, 1, 1),
  )
  (slope,) = pull(jnp.ones_like(value))
  distribution = np.array([0.5 * (1 + math.erf(v / 2**0.5)) for v in x])
  density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
  tolerance = {'rtol': 2e-6, 'atol': 1.5e-6}
  np.testing.assert_allclose(value.ravel(), x * distribution, **tolerance)
  np.testing.assert_allclose(
    slope.ravel(), distribution + x * density, **tolerance
  )


@pytest.mark.parametrize('activation', kernels.ACTIVATIONS)
def test_nan_stays_nan(backend, activation):
  x = jnp.full((1, 2, 2, 3), jnp.nan).at[..., 0].set(1.0)
  y = kernels.activation_affine(
    x,
    None,
    jnp.ones(3),
    jnp.zeros(3),
    activation=activation,
    backend=backend,
  )
  np.testing.assert_array_equal(np.isnan(y), np.isnan(x))


def test_sums_for_gpus_are_one_reduction_and_equal_the_others():
  (x, _, g), (bias, *_) = draw((2, 4, 6, 16))
  x, g, bias = jnp.bfloat16(x), jnp.bfloat16(g), jnp.float32(bias)
  sums = jax.jit(functools.partial(norm_xla.sums, activation='relu'))
  lowered = sums.trace(x, bias, g).lower(lowering_platforms=('cuda',))
  assert lowered.as_text().count('stablehlo.reduce(') == 1
  a = activate('relu', np.float64(x) + np.float64(bias))
  g = np.float64(g)
  expected = g.sum((1, 2)), (g * a).sum((1, 2))
  first, second = np.float32(g), np.float32(g * a)
  for found in (
    sums(x, bias, g.astype(x.dtype)),
    norm_xla.sum_together(first, second),
  ):
    np.testing.assert_allclose(
      found, np.stack(expected, axis=1), rtol=1e-5, atol=1e-4
    )


SHARDED = """
import json, re, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax import kernels

mesh = jax.make_mesh((4, 2), ('data', 'fsdp'), axis_types=(AxisType.Auto,) * 2)
rng = np.random.default_rng(0)
shape = 16, 3, 5, 40
draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
x, residual, g = draw(*shape), draw(*shape), draw(*shape)
channels = draw(40), draw(40), draw(40)

def run(backend, group_size, x, channels, residual, g):
  def norm(x, channels, residual):
    return kernels.activation_batch_norm(
      x, *channels, residual, activation='gelu', group_size=group_size,
      epsilon=1e-5, backend=backend)
  (y, mean, var), pull = jax.vjp(norm, x, channels, residual)
  return y, mean, var, pull((g, 0 * mean, 0 * var))

put = lambda a: jax.device_put(a, NamedSharding(mesh, P(('data', 'fsdp'))))
found = {}
for group_size in (2, 16):
  arguments = put(x), channels, put(residual), put(g)
  compiled = jax.jit(run, static_argnums=(0, 1)).lower(
    sys.argv[1], group_size, *arguments).compile()
  values = compiled(*arguments)
  expected = run('xla', group_size, x, channels, residual, g)
  text = compiled.as_text()
  found[group_size] = dict(
    moved=re.findall(r' (all-gather|all-to-all|collective-permute)', text),
    reduced=len(re.findall(r' all-reduce(?:-start)?\\(', text)),
    error=max(
      float(np.abs(np.asarray(a) - np.asarray(b)).max())
      for a, b in zip(*map(jax.tree.leaves, (values, expected)))),
    rows=values[0].sharding.shard_shape(shape)[0])
print(json.dumps(found))
"""


@pytest.mark.parametrize('backend', ['cpu', 'xla'])
@pytest.mark.slow
def test_sharded_batch_is_not_moved(backend):
  if backend == 'cpu' and library.unavailable('norm'):
    pytest.skip('the CPU kernels need a C++ compiler')
  printed = devices.run(SHARDED, 8, backend)
  groups, whole = json.loads(printed).values()
  for found in (groups, whole):
    assert found['moved'] == []
    assert found['rows'] == 2
    assert found['error'] < 1e-4
  # The whole batch's statistics are summed forward and backward; besides,
  # only the gradients of the parameters are.
  assert groups['reduced'] <= 1
  assert whole['reduced'] <= 3
