"""Sweeps of the learning rate: its rule on made losses, and on digits."""

import numpy as np
import pytest

from convmixer_jax.errors import UserError
from convmixer_jax.training import learning_rate_sweep, loop


def evaluate(losses):
  rates = np.geomspace(1e-6, 1e1, 200)
  return learning_rate_sweep._evaluate('made', rates, np.asarray(losses))


def valley(rates):
  """A loss that falls around 1e-3 and rises from 1e-1."""
  logs = np.log10(rates)
  fall = 2 / (1 + np.exp(4 * (logs + 3)))
  return 0.5 + fall + np.exp(3 * (logs + 0.5))


def test_smoothed_loss_is_a_mean_of_weights_that_decay():
  losses = np.random.default_rng(0).normal(size=20)
  smoothed = learning_rate_sweep.smooth(losses)
  for n in range(1, 21):
    weights = 0.9 ** np.arange(n)[::-1]
    expected = np.average(losses[:n], weights=weights)
    np.testing.assert_allclose(smoothed[n - 1], expected, rtol=1e-12)


def test_suggestion_is_a_tenth_of_the_rate_at_the_minimum():
  sweep = evaluate(valley(np.geomspace(1e-6, 1e1, 200)))
  at_minimum = sweep.rates[np.argmin(sweep.smoothed)]
  assert 1e-2 < at_minimum < 1
  assert sweep.suggestion == pytest.approx(at_minimum / 10, rel=0.05)
  # Smoothing over ten steps delays the steepest descent, at 1e-3.
  assert 1e-3 <= sweep.rates[sweep.steepest] <= 1e-2
  assert sweep.has_diverged


def test_an_easy_first_batch_is_not_the_minimum():
  losses = valley(np.geomspace(1e-6, 1e1, 200))
  sweep = evaluate([losses.min() / 3, *losses[1:]])
  assert sweep.minimum == evaluate(losses).minimum
  with pytest.raises(UserError, match='the loss did not fall'):
    evaluate([1.0, *np.full(199, 2.3)])


def test_loss_that_does_not_diverge_is_marked():
  losses = np.linspace(2.3, 0.5, 200)
  assert not evaluate(losses).has_diverged


@pytest.mark.parametrize(
  ('losses', 'message'),
  [
    (np.full(200, 2.3), 'the loss did not fall at learning rates from 1e-06'),
    ([2.3, 2.2, np.nan], 'not finite after 2 steps'),
  ],
)
def test_losses_without_a_minimum_are_refused(losses, message):
  with pytest.raises(UserError, match=message):
    evaluate(losses)


@pytest.mark.parametrize(
  'options',
  [{'lowest': 0.0}, {'lowest': 1.0, 'highest': 0.1}, {'num_steps': 5}],
)
def test_what_is_not_a_sweep_is_refused(config, options):
  with pytest.raises(UserError, match='are not a sweep; give 0 < lowest'):
    learning_rate_sweep.sweep_learning_rate(config, **options)


@pytest.mark.slow
@pytest.mark.parametrize('optimizer', ['adamw', 'sgd'])
def test_suggestion_for_digits_trains(config, optimizer, tmp_path, monkeypatch):
  monkeypatch.setenv('TMPDIR', str(tmp_path / 'scratch'))
  (tmp_path / 'scratch').mkdir()
  config.optimizer = optimizer
  config.mixup.mixup_alpha = config.mixup.cutmix_alpha = 0.0
  config.augment.rand_augment.num_ops, config.augment.flip = 0, 0.0
  config.erasing.probability = config.label_smoothing = 0.0
  config.model.width = 16
  sweep = learning_rate_sweep.sweep_learning_rate(config, num_steps=100)
  assert not any((tmp_path / 'scratch').iterdir())
  assert len(sweep.rates) == len(sweep.losses) == len(sweep.smoothed)
  np.testing.assert_allclose(
    sweep.rates, np.geomspace(1e-6, 10.0, 100)[: len(sweep.rates)], rtol=1e-12
  )
  config.learning_rate, config.num_epochs = sweep.suggestion, 4
  results = loop.train_and_evaluate(config, str(tmp_path / 'run'))
  assert results['eval_accuracy'] > 0.3  # 0.1 by chance
