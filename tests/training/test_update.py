"""The update of the state: optax's rule, all of it or nothing, in few bytes."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.training.optimizer import create_optimizer
from convmixer_jax.training.update import update_state

SHAPES = {
  'blocks': {'kernel': (3, 4, 5), 'bias': (3, 5)},
  'head': {'kernel': (5, 7), 'bias': (7,)},
}
STATISTICS = {'mean': jnp.zeros(5)}


def schedule(step):
  return 0.05 / (step + 1)


def random_tree(seed, shapes=SHAPES):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
    shapes,
    is_leaf=lambda node: isinstance(node, tuple),
  )


def create(config, schedule=schedule, optimizer=None, shapes=SHAPES):
  """Returns an optimizer, a state and the compiled update, which donates it."""
  config.weight_decay = 0.1
  optimizer = optimizer or create_optimizer(config, schedule)
  params = random_tree(0, shapes)
  averages = {'params': params, 'batch_stats': STATISTICS}
  state = TrainState(
    jnp.zeros((), jnp.int32),
    params,
    STATISTICS,
    optimizer.init(params),
    averages if config.ema_decay else {},
  )
  update = partial(
    update_state, optimizer=optimizer, schedule=schedule, config=config
  )
  state = jax.tree.map(jnp.copy, state)  # no array may be donated twice
  return optimizer, state, jax.jit(update, donate_argnums=0)


def assert_close(a, b):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-7), a, b
  )


@pytest.mark.parametrize('clip_norm', [0.0, 1.0])
@pytest.mark.parametrize('name', ['adamw', 'sgd', 'lamb', 'lion'])
def test_updates_are_those_of_optax(config, name, clip_norm):
  config.optimizer, config.clip_norm, config.ema_decay = name, clip_norm, 0.9
  optimizer, state, update = create(config)
  params, opt_state = random_tree(0), optimizer.init(random_tree(0))
  mean = params
  for step in range(3):
    gradient = random_tree(step + 1)
    state, report = update(state, gradient, jnp.float32(1.0), STATISTICS)
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    params = optax.apply_updates(params, updates)
    mean = jax.tree.map(lambda m, p: 0.9 * m + 0.1 * p, mean, params)
    assert_close(state.params, params)
    assert_close(state.opt_state, opt_state)
    assert_close(state.ema['params'], mean)
    expected = {
      'learning_rate': schedule(step),
      'gradient_norm': optax.tree.norm(gradient),
      'update_norm': optax.tree.norm(updates),
      'parameter_norm': optax.tree.norm(params),
      'skipped': False,
    }
    assert_close(report, expected)
  assert state.step == 3


@pytest.mark.parametrize('wrong', ['gradient', 'loss', 'statistics', 'update'])
def test_what_is_not_finite_changes_only_the_step_of_a_donated_state(
  config, wrong
):
  config.ema_decay = 0.9

  def rate(step):
    return jnp.where(step == 1, jnp.inf, 0.1)

  _, state, update = create(config, rate if wrong == 'update' else schedule)
  state, _ = update(state, random_tree(1), jnp.float32(1.0), STATISTICS)
  before = jax.tree.map(np.array, state)

  gradient, loss, statistics = random_tree(2), jnp.float32(1.0), STATISTICS
  if wrong == 'gradient':
    gradient['head']['kernel'] = gradient['head']['kernel'].at[1, 2].set(np.nan)
  if wrong == 'loss':
    loss = jnp.float32(np.inf)
  if wrong == 'statistics':
    statistics = {'mean': jnp.full(5, np.inf)}
  after, report = update(state, gradient, loss, statistics)
  assert report['skipped']
  jax.tree.map(
    np.testing.assert_array_equal, after, before.replace(step=before.step + 1)
  )
  after, report = update(after, gradient, jnp.float32(1.0), STATISTICS)
  assert report['skipped'] == (wrong == 'gradient')


def test_an_optimizer_of_the_user_is_computed_once(config):
  calls = []
  adam = optax.inject_hyperparams(optax.adam)(0.1)

  def count(*arguments):
    calls.append(arguments)
    return adam.update(*arguments)

  optimizer = optax.GradientTransformation(adam.init, count)
  _, state, update = create(config, None, optimizer)
  _, report = update(state, random_tree(1), jnp.float32(1.0), STATISTICS)
  assert len(calls) == 1
  np.testing.assert_allclose(report['learning_rate'], 0.1, rtol=1e-6)


@pytest.mark.parametrize('clip_norm', [0.0, 1.0])
@pytest.mark.parametrize(
  'name, arrays', [('adamw', 3), ('lamb', 3), ('sgd', 2)]
)
def test_cpus_keep_no_second_copy_of_the_state(config, name, arrays, clip_norm):
  """Besides it there are the update, another, and the clipped gradient."""
  config.optimizer, config.clip_norm = name, clip_norm
  shapes = {'head': {'kernel': (1024, 1024)}}
  size = 4 * 1024**2
  _, state, update = create(config, shapes=shapes)
  program = update.lower(
    state, random_tree(1, shapes), jnp.float32(1.0), STATISTICS
  ).compile()
  memory = program.memory_analysis()
  assert memory.alias_size_in_bytes >= arrays * size
  assert memory.temp_size_in_bytes < (3.5 if clip_norm else 2.5) * size
  assert not re.search(r' = f32\[1024,1024\]\S* copy\(', program.as_text())


def test_other_devices_are_left_to_their_compiler(config):
  _, state, update = create(config)
  traced = update.trace(state, random_tree(1), jnp.float32(1.0), STATISTICS)
  for platform, expected in (('cpu', True), ('cuda', False), ('tpu', False)):
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ('optimization_barrier' in program) is expected
