"""The update of the state: optax's rule, all of it or nothing, in few bytes."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.kernels.cpu import library
from convmixer_jax.models import find_architecture, stacks
from convmixer_jax.training.optimizer import create_optimizer
from convmixer_jax.training.update import rule_of_kernel, update_state

SHAPES = {
  'blocks': {'kernel': (3, 4, 5), 'bias': (3, 5)},
  'head': {'kernel': (5, 7), 'bias': (7,)},
}
STATISTICS = {'mean': jnp.zeros(5)}


def schedule(step):
  return 0.05 / (step + 1)


@pytest.fixture(params=['kernel', 'operations'])
def form(request, monkeypatch):
  """Both forms of AdamW's update; others have operations of optax alone."""
  reason = library.unavailable('adamw')
  if request.param == 'kernel' and reason:
    pytest.skip('the CPU kernels need a C++ compiler')
  if request.param == 'operations':
    monkeypatch.setattr(library, 'unavailable', lambda *_: 'a test')
  return request.param


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
def test_updates_are_those_of_optax(config, form, name, clip_norm):
  del form
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
  config, form, wrong
):
  config.ema_decay = 0.9
  del form

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
def test_cpus_keep_no_second_copy_of_the_state(
  config, form, name, arrays, clip_norm
):
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
  most = 3.5 if clip_norm else 2.5
  if name == 'adamw' and form == 'kernel':
    most = 0.01
  assert memory.temp_size_in_bytes < most * size
  assert not re.search(r' = f32\[1024,1024\]\S* copy\(', program.as_text())


def test_other_devices_are_left_to_their_compiler(config, form):
  mark = {'kernel': 'convmixer_adamw', 'operations': 'optimization_barrier'}
  _, state, update = create(config)
  traced = update.trace(state, random_tree(1), jnp.float32(1.0), STATISTICS)
  for platform, expected in (('cpu', True), ('cuda', False), ('tpu', False)):
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert (mark[form] in program) is expected


def test_gradients_of_blocks_give_the_update_of_their_stack(config, form):
  config.clip_norm = 1.0
  optimizer, state, update = create(config)
  gradient = random_tree(1)
  expected, _ = update(state, gradient, jnp.float32(1.0), STATISTICS)
  _, state, update = create(config)
  rule = rule_of_kernel(optimizer, schedule, state.params)
  assert (rule is not None) is (form == 'kernel')
  found, _ = update(
    *(state, stacks.unstack(gradient, ['blocks']), jnp.float32(1.0)),
    STATISTICS,
  )
  assert_close(found, expected)


def rule_of(optimizer, schedule=schedule, params=None):
  return rule_of_kernel(optimizer, schedule, params or random_tree(0))


@pytest.mark.parametrize(
  'field, value',
  [('backbone_lr_scale', 0.1), ('layer_lr_decay', 0.9), ('optimizer', 'lion')],
)
def test_what_is_more_than_adamw_has_the_operations(config, field, value):
  optimizer = create_optimizer(config, schedule)
  assert bool(rule_of(optimizer)) is (library.unavailable('adamw') is None)
  assert rule_of(optimizer, schedule=None) is None
  assert rule_of(optimizer._replace(update=optax.sgd(1.0).update)) is None
  setattr(config, field, value)
  optimizer = create_optimizer(config, schedule, find_architecture('vit'))
  assert rule_of(optimizer) is None


def test_parameters_of_other_dtypes_have_the_operations(config):
  params = random_tree(0)
  params['head']['bias'] = params['head']['bias'].astype(jnp.bfloat16)
  assert rule_of(create_optimizer(config, schedule), params=params) is None


def test_the_rule_is_the_optimizers_not_that_of_a_changed_config(config, form):
  del form
  optimizer, state, update = create(config)
  config.weight_decay, config.clip_norm, config.adam_beta1 = 0.9, 1e-3, 0.1
  gradient = random_tree(1)
  _, report = update(state, gradient, jnp.float32(1.0), STATISTICS)
  updates, _ = optimizer.update(
    gradient, optimizer.init(random_tree(0)), random_tree(0)
  )
  np.testing.assert_allclose(
    report['update_norm'], optax.tree.norm(updates), rtol=1e-6
  )


def test_parameters_may_have_the_names_of_the_optimizers_state(config, form):
  del form
  shapes = {'mu': {'nu': (3, 2), 'count': (2,)}, 'nu': {'kernel': (2, 2)}}
  optimizer, state, update = create(config, shapes=shapes)
  gradient = random_tree(1, shapes)
  state, _ = update(state, gradient, jnp.float32(1.0), STATISTICS)
  params = random_tree(0, shapes)
  updates, opt_state = optimizer.update(
    gradient, optimizer.init(params), params
  )
  assert_close(state.params, optax.apply_updates(params, updates))
  assert_close(state.opt_state, opt_state)


def test_updates_of_several_states_at_once_are_those_of_each(config, form):
  del form
  config.ema_decay = 0.9
  _, state, update = create(config)
  states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
  gradients = [random_tree(seed) for seed in (1, 2)]
  together, _ = jax.jit(jax.vmap(update, (0, 0, None, None)))(
    states,
    jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients),
    jnp.float32(1.0),
    STATISTICS,
  )
  for index, gradient in enumerate(gradients):
    one, _ = update(
      jax.tree.map(jnp.copy, state), gradient, jnp.float32(1.0), STATISTICS
    )
    assert_close(jax.tree.map(lambda leaf, i=index: leaf[i], together), one)
