"""Learning rates, against timm's schedulers and the formulas in NumPy."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convmixer_jax import config as config_lib
from convmixer_jax.errors import UserError
from convmixer_jax.training.schedules import create_schedule

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'recipes.npz'
# As in make_recipe_fixtures.py.
EPOCHS, UPDATES = 20, 7
WARMUP = {'warmup_epochs': 5.0, 'warmup_learning_rate': 1e-6}
COSINE = {'schedule': 'cosine', **WARMUP, 'learning_rate_end': 1e-5}
STEP = {'schedule': 'step', 'step_epochs': 6.0, 'step_factor': 0.1}
OPTIONS = {
  'deit': {**COSINE, 'warmup_prefix': False, 'schedule_per_epoch': True},
  'deit_steps': {**COSINE, 'warmup_prefix': False},
  'prefix': COSINE,
  'prefix_epochs': {
    **COSINE,
    'learning_rate_end': 0.0,
    'schedule_per_epoch': True,
  },
  'plain': {
    'schedule': 'cosine',
    'learning_rate_end': 1e-4,
    'schedule_per_epoch': True,
  },
  'step': STEP,  # steps are at epochs, per epoch or not
  'step_warmup': {
    **STEP,
    **WARMUP,
    'warmup_prefix': False,
    'schedule_per_epoch': True,
  },
  'step_prefix': {**STEP, **WARMUP, 'step_factor': 0.3},
}


@pytest.mark.parametrize('case', OPTIONS)
def test_learning_rate_of_each_update_equals_timms(config, case):
  config.learning_rate = 1e-3
  config.update(OPTIONS[case])
  config_lib.validate(config)
  schedule = create_schedule(config, UPDATES, EPOCHS * UPDATES)
  with np.load(FIXTURE) as arrays:
    expected = arrays[f'schedule/{case}']
  rates = jax.jit(jax.vmap(schedule))(jnp.arange(EPOCHS * UPDATES))
  np.testing.assert_allclose(rates, expected, rtol=2e-5, atol=1e-10)


@pytest.mark.parametrize('warmup_epochs', [0.0, 2.0])
def test_cosine_by_default_has_the_bits_of_optaxs(config, warmup_epochs):
  config.schedule, config.warmup_epochs = 'cosine', warmup_epochs
  steps = jnp.arange(100)
  ours = jax.jit(jax.vmap(create_schedule(config, 10, 100)))(steps)
  optaxs = optax.warmup_cosine_decay_schedule(
    0.0 if warmup_epochs else 0.01, 0.01, int(10 * warmup_epochs), 100
  )
  np.testing.assert_array_equal(ours, jax.jit(jax.vmap(optaxs))(steps))


def test_a_learning_rate_of_zero_stays_zero(config):
  config.schedule, config.learning_rate = 'cosine', 0.0
  assert create_schedule(config, 10, 100)(50) == 0


def test_cosine_that_would_rise_is_refused(config):
  config.update({**COSINE, 'learning_rate': 1e-6})
  with pytest.raises(UserError, match=r'end = 1e-05 is above .* = 1e-06, from'):
    config_lib.validate(config)
  config.learning_rate = config.learning_rate_end
  config_lib.validate(config)


def test_step_lowers_the_rate_every_thirty_epochs_as_torchvision(config):
  config.schedule, config.learning_rate = 'step', 0.1
  schedule = create_schedule(config, 10, 900)
  rates = [float(schedule(step)) for step in (0, 299, 300, 599, 600, 899)]
  expected = [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
  np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_warmup_of_the_whole_run_is_refused(config):
  config.schedule, config.warmup_epochs = 'step', 2.0
  with pytest.raises(UserError, match='takes 20 steps, and the run has 20'):
    create_schedule(config, 10, 20)


def test_triangular_schedule_equals_that_of_the_authors(config):
  config.learning_rate, config.num_epochs = 0.01, 7
  schedule = create_schedule(config, 10, 70)
  # The authors': interp(t, [0, E*2//5, E*4//5, E], [0, lr, lr/20, 0]).
  t = (np.arange(70) + 1) / 10
  expected = np.interp(t, [0, 2, 5, 7], [0, 0.01, 0.0005, 0])
  rates = [schedule(jnp.int32(step)) for step in range(70)]
  np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-9)
  assert rates[69] == 0


@pytest.mark.parametrize(
  'length', [{'num_steps': 50}, {'num_epochs': 2, 'num_steps': 0}]
)
def test_triangular_schedule_is_scaled_to_short_runs(config, length):
  config.learning_rate = 0.01
  config.update(length)
  schedule = create_schedule(config, 25, 50)
  expected = np.interp(np.arange(50) + 1, [0, 20, 40, 50], [0, 0.01, 0.0005, 0])
  rates = [schedule(jnp.int32(step)) for step in range(50)]
  np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize('warmup_epochs', [0, 2])
def test_cosine_and_constant_schedules_with_warmup(config, warmup_epochs):
  config.learning_rate, config.warmup_epochs = 0.1, warmup_epochs
  warmup, total = 10 * warmup_epochs, 100
  steps = np.arange(total)
  progress = np.clip((steps - warmup) / (total - warmup), 0, 1)
  ramp = np.minimum(steps / max(warmup, 1), 1) if warmup else 1
  for name, expected in {
    'cosine': ramp * 0.05 * (1 + np.cos(np.pi * progress)),
    'constant': ramp * np.full(total, 0.1),
  }.items():
    config.schedule = name
    schedule = create_schedule(config, 10, total)
    rates = [schedule(step) for step in steps]
    np.testing.assert_allclose(rates, expected, rtol=1e-4, atol=1e-7)
