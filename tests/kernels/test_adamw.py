"""The step of AdamW as one operation, against its definition in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import kernels
from convmixer_jax.kernels.cpu import library

# Whole vectors and not; more elements than those of a task; no element.
SHAPES = [(3, 20011), (2, 33000), (5,), (2, 3, 7), (0, 4), ()]
BLOCKS = [3, 1, 1, 2, 1, 1]
DECAYS = (0.1, 0.0, 0.0, 0.1, 0.1, 0.0)
BETA1, BETA2, EPSILON, RATE, COUNT = 0.9, 0.99, 1e-4, 0.03, 3


@pytest.fixture(autouse=True)
def _needs_compiler():
  if library.unavailable('adamw'):
    pytest.skip('the CPU kernels need a C++ compiler')


def create(clip_norm):
  rng = np.random.default_rng(0)
  gradients, params, first, second = (
    [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
    for _ in range(4)
  )
  second = [np.square(array) for array in second]
  numbers = {
    'keep_first': BETA1,
    'add_first': 1 - BETA1,
    'keep_second': BETA2,
    'add_second': 1 - BETA2,
    'unbias_first': 1 / (1 - BETA1**COUNT),
    'unbias_second': 1 / (1 - BETA2**COUNT),
    'epsilon': EPSILON,
    'learning_rate': RATE,
    'clip_norm': clip_norm,
  }
  return gradients, params, first, second, numbers


def in_blocks(gradients):
  return [
    tuple(map(jnp.asarray, array)) if count > 1 else (jnp.asarray(array),)
    for array, count in zip(gradients, BLOCKS, strict=True)
  ]


@jax.jit
def step(gradients, params, first, second, numbers, also_finite):
  def separate(*operands):  # is traced, but not compiled
    return *operands[1:4], operands[-1], jnp.zeros((), bool)

  return kernels.adamw(
    *(separate, gradients, params, first, second, numbers, also_finite),
    jnp.zeros(3),
    decays=DECAYS,
  )


def norm(arrays):
  return np.sqrt(sum(np.square(array, dtype=float).sum() for array in arrays))


@pytest.mark.parametrize('clip_norm', [0.0, 2.0, 1e6])
def test_a_step_is_that_of_the_definition(clip_norm):
  gradients, *arrays, numbers = create(clip_norm)
  *found, norms, skipped = step(
    in_blocks(gradients), *arrays, numbers, jnp.float32(1.0)
  )
  scale = clip_norm / norm(gradients) if clip_norm == 2.0 else 1.0
  updates, expected = [], []
  for g, p, m, v, decay in zip(gradients, *arrays, DECAYS, strict=True):
    g, p, m, v = (np.float64(array) for array in (g, p, m, v))
    m = (1 - BETA1) * scale * g + BETA1 * m
    v = (1 - BETA2) * np.square(scale * g) + BETA2 * v
    root = np.sqrt(v / (1 - BETA2**COUNT))
    update = -RATE * (m / (1 - BETA1**COUNT) / (root + EPSILON) + decay * p)
    updates.append(update)
    expected.append((p + update, m, v))
  for arrays, wanted in zip(found, zip(*expected, strict=True), strict=True):
    for array, values in zip(arrays, wanted, strict=True):
      np.testing.assert_allclose(array, values, rtol=2e-6, atol=1e-6)
  new_params = [param for param, *_ in expected]
  np.testing.assert_allclose(
    norms, [norm(gradients), norm(updates), norm(new_params)], rtol=5e-6
  )
  assert not skipped


@pytest.mark.parametrize('value', [np.nan, np.inf, 1e30])
@pytest.mark.parametrize(
  'where', ['gradients', 'params', 'first', 'second', 'also_finite', 'rate']
)
@pytest.mark.parametrize('clip_norm', [0.0, 1.0])
def test_a_step_that_is_not_finite_changes_nothing(where, value, clip_norm):
  gradients, params, first, second, numbers = create(clip_norm)
  named = {
    'gradients': gradients,
    'params': params,
    'first': first,
    'second': second,
  }
  if where in named:
    named[where][0][2, 20010] = value  # in the last vector of a block
  if where == 'rate':
    numbers['learning_rate'] = value
  also_finite = jnp.float32(value if where == 'also_finite' else 0.0)
  arrays = params, first, second
  *found, _, skipped = step(in_blocks(gradients), *arrays, numbers, also_finite)
  is_finite = np.isfinite(value) and where in ('also_finite', 'second')
  is_finite |= value == np.inf and where == 'second'  # the update is 0
  assert skipped != is_finite
  if skipped:
    jax.tree.map(np.testing.assert_array_equal, found, list(arrays))


def test_a_step_writes_over_what_it_is_given():
  gradients, *arrays, numbers = create(1.0)
  donating = jax.jit(step, donate_argnums=(1, 2, 3))
  arguments = jax.tree.map(
    jnp.asarray, (in_blocks(gradients), *arrays, numbers, jnp.float32(0.0))
  )
  program = donating.lower(*arguments).compile()
  size = 3 * 4 * sum(map(np.size, arrays[0]))
  memory = program.memory_analysis()
  assert memory.alias_size_in_bytes >= size
  assert memory.temp_size_in_bytes < 4096
  assert not re.search(r' = f32\[3,20011\]\S* copy\(', program.as_text())


def test_other_platforms_have_the_operations_alone():
  gradients, *arrays, numbers = create(0.0)
  traced = step.trace(in_blocks(gradients), *arrays, numbers, jnp.float32(0.0))
  for platform, expected in (('cpu', True), ('cuda', False), ('tpu', False)):
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ('convmixer_adamw' in program) is expected


def test_a_constant_that_is_infinite_and_not_decayed_stays():
  gradients, params, first, second, numbers = create(1.0)
  where = DECAYS.index(0.0)
  params[where][0, 5] = -np.inf
  for arrays in (gradients, first, second):
    arrays[where][0, 5] = 0.0
  arrays = in_blocks(gradients), params, first, second
  found, *_, skipped = step(*arrays, numbers, jnp.float32(0.0))
  assert not skipped
  assert found[where][0, 5] == -np.inf


def test_under_vmap_the_operations_compute():
  gradients, *arrays, numbers = create(0.0)
  *_, norms, _ = jax.vmap(step, (None, 0, 0, 0, None, None))(
    in_blocks(gradients),
    *([jnp.stack([array] * 2) for array in group] for group in arrays),
    numbers,
    jnp.float32(0.0),
  )
  np.testing.assert_array_equal(norms, np.zeros((2, 3)))  # of `separate`
