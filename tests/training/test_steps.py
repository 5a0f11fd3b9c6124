"""The training and the evaluation step."""

import re

import architectures
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convmixer_jax.kernels.cpu import library
from convmixer_jax.models import architecture_of, create_model
from convmixer_jax.training import steps
from convmixer_jax.training.optimizer import create_optimizer
from convmixer_jax.training.preprocess import normalize


@pytest.fixture
def batch():
  rng = np.random.default_rng(0)
  return {
    'image': rng.integers(0, 255, (16, 8, 8, 3), np.uint8),
    'label': rng.integers(0, 10, (16,), np.int32),
  }


@pytest.fixture
def config(config):
  """One whose step is simple enough to be written down in a test."""
  config.mixup.mixup_alpha = config.mixup.cutmix_alpha = 0.0
  config.erasing.probability = 0.0
  return config


def make(config, optimizer=None):
  model = create_model(config.model, 10, config.dtype)
  schedule = optax.constant_schedule(0.1)
  optimizer = optimizer or optax.sgd(schedule)
  state = jax.jit(lambda: steps.create_state(model, optimizer, config))()
  step = steps.make_train_step(model, optimizer, schedule, config)
  return model, state, jax.jit(step)


def assert_trees_close(a, b, **tolerance):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.mark.slow
def test_step_is_gradient_descent_on_the_smoothed_loss(config, batch):
  model, state, train_step = make(config)
  new_state, metrics = train_step(state, batch)

  def loss(params):
    logits, updated = model.apply(
      {'params': params, 'batch_stats': state.batch_stats},
      normalize(batch['image'], config.dataset),
      train=True,
      mutable=['batch_stats'],
    )
    targets = np.full((16, 10), 0.01)
    targets[np.arange(16), batch['label']] = 0.91
    log_probabilities = logits - jax.scipy.special.logsumexp(
      logits, axis=-1, keepdims=True
    )
    return -jnp.mean(jnp.sum(targets * log_probabilities, -1)), updated

  (value, updated), gradient = jax.value_and_grad(loss, has_aux=True)(
    state.params
  )
  expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradient)
  assert new_state.step == 1
  assert_trees_close(new_state.params, expected, rtol=1e-4, atol=1e-6)
  assert_trees_close(
    new_state.batch_stats, updated['batch_stats'], rtol=1e-4, atol=1e-6
  )
  values = metrics.compute()
  norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(gradient)))
  np.testing.assert_allclose(values['train_loss'], value, rtol=1e-5)
  np.testing.assert_allclose(values['gradient_norm'], norm, rtol=1e-4)
  np.testing.assert_allclose(values['update_norm'], 0.1 * norm, rtol=1e-4)
  np.testing.assert_allclose(values['learning_rate'], 0.1, rtol=1e-6)


@pytest.mark.slow
def test_accumulation_equals_the_large_batch_with_groups_of_batch_norm(
  config, batch
):
  """With BatchNorm over the same images, the same gradient; exactly then.

  Part a of A is rows a, a + A, ...: groups of 4 BatchNorm over 16 rows in the
  one order are the parts in the other.
  """
  config.accum_steps = 4
  _, state, accumulating = make(config)
  accumulated, metrics = accumulating(state, batch)

  config.accum_steps, config.model.bn_group_size = 1, 4
  _, _, at_once = make(config)
  order = np.arange(16).reshape(4, 4).T.reshape(-1)
  whole, expected = at_once(state, {k: v[order] for k, v in batch.items()})
  assert_trees_close(accumulated.params, whole.params, rtol=1e-4, atol=1e-6)
  for name in ('train_loss', 'train_accuracy', 'gradient_norm'):
    np.testing.assert_allclose(
      metrics.compute()[name], expected.compute()[name], rtol=1e-5
    )


@pytest.mark.slow
def test_augmentation_is_determined_by_seed_and_step(config, batch):
  config.mixup.mixup_alpha = 0.5
  _, state, train_step = make(config)

  def loss(state):
    return float(train_step(state, batch)[1].compute()['train_loss'])

  later = state.replace(step=state.step + 1)
  assert loss(state) == loss(state)
  assert loss(state) != loss(later)
  config.seed = 1
  _, _, train_step = make(config)
  assert loss(state) != loss(later)


def test_evaluation_counts_only_unmasked_images(config, batch):
  model, state, _ = make(config)
  eval_step = jax.jit(steps.make_eval_step(model, config))
  mask = np.float32(np.arange(16) < 11)
  values = eval_step(state, batch | {'mask': mask}).compute()

  logits = np.asarray(
    model.apply(
      {'params': state.params, 'batch_stats': state.batch_stats},
      normalize(batch['image'], config.dataset),
      train=False,
    )
  )[:11].astype(np.float64)
  labels = batch['label'][:11]
  best = np.argsort(-logits, axis=-1)
  log_sum = np.log(np.sum(np.exp(logits), -1))
  np.testing.assert_allclose(
    values['eval_loss'],
    np.mean(log_sum - logits[np.arange(11), labels]),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    values['eval_accuracy'], np.mean(best[:, 0] == labels), rtol=1e-6
  )
  np.testing.assert_allclose(
    values['eval_accuracy_top5'],
    np.mean(np.any(best[:, :5] == labels[:, None], -1)),
    rtol=1e-6,
  )


def test_nan_network_is_never_best(config, batch):
  model, state, _ = make(config)
  params = jax.tree.map(lambda p: p * np.nan, state.params)
  eval_step = jax.jit(steps.make_eval_step(model, config))
  values = eval_step(
    state.replace(params=params), batch | {'mask': np.ones(16, np.float32)}
  ).compute()
  assert values['eval_accuracy'] < 0.5


def initialise(model, config):
  return jax.jit(
    lambda: steps.create_state(model, optax.identity(), config)
  ).lower()


@pytest.mark.slow
@pytest.mark.parametrize('name', architectures.NAMES)
def test_initial_parameters_are_those_of_blocks_that_are_no_loop(name):
  config = architectures.config_of(name)
  config.dataset.image_size = 8
  model = create_model(config.model, 10, image_size=(8, 8))
  assert not model.scan
  state = initialise(model, config).compile()()
  rng = jax.random.fold_in(jax.random.key(config.seed), steps._INIT)
  images = np.zeros((1, 8, 8, 3), np.float32)
  expected = jax.jit(lambda: model.init(rng, images, train=False))()
  architectures.assert_identical(state.params, expected['params'])


def test_program_that_initialises_does_not_grow_with_the_depth(config):
  def lines(depth):
    config.model.depth = depth
    model = create_model(config.model, 10, config.dtype)
    return len(initialise(model, config).as_text().splitlines())

  assert lines(12) == lines(3)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, num_parts', [('vit', 1), ('convmixer', 2), ('resnet', 1)]
)
def test_stacks_of_gradients_are_read_block_by_block(name, num_parts, batch):
  if library.unavailable('adamw'):
    pytest.skip('the CPU kernels need a C++ compiler')
  config = architectures.config_of(name)
  config.accum_steps = num_parts
  if 'drop_path' in config.model:
    config.model.drop_path = 0.0  # its draws differ in a loop over blocks

  def step_of(scan, **arguments):
    config.model.scan = scan
    optimizer = create_optimizer(config, optax.constant_schedule(0.1))
    model, state, _ = make(config, optimizer)
    step = steps.make_train_step(
      *(model, optimizer, optax.constant_schedule(0.1), config), **arguments
    )
    compiled = jax.jit(step).lower(state, batch).compile()
    return state, compiled, compiled.as_text()

  state, step, program = step_of(scan=False)
  assert 'convmixer_adamw' in program
  stacked = {
    leaf.shape
    for stack in architecture_of(create_model(config.model, 10)).stacked
    for leaf in jax.tree.leaves(state.params.get(stack, {}))
    if leaf.ndim > 2  # BatchNorm's statistics are stacked
  }
  for shape in stacked:
    written = ','.join(map(str, shape))
    assert not re.search(rf' = f32\[{written}\]\S* concatenate\(', program)
  _, loop, _ = step_of(scan=True)
  found, expected = step(state, batch)[0], loop(state, batch)[0]
  # An update is a ratio, which is unstable where the gradient is almost 0.
  assert_trees_close(found.opt_state, expected.opt_state, rtol=1e-3, atol=1e-5)

  _, _, program = step_of(scan=False, one_operation=False)
  assert 'convmixer_adamw' not in program
