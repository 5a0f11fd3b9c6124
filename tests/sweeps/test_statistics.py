"""Intervals, beside those of SciPy."""

import numpy as np
import pytest
from scipy import stats

from convmixer_jax.sweeps.statistics import mean_interval, paired_difference


@pytest.mark.parametrize('count', [2, 3, 5, 20])
def test_interval_is_that_of_scipy(count):
  values = np.random.default_rng(count).normal(0.9, 0.01, count)
  found = mean_interval(values.tolist())
  low, high = stats.t.interval(
    0.95, count - 1, loc=values.mean(), scale=stats.sem(values)
  )
  np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-12)
  assert found.num_values == count


@pytest.mark.parametrize('count', [2, 3, 8])
def test_paired_difference_is_that_of_scipys_paired_test(count):
  rng = np.random.default_rng(count)
  values, reference = rng.normal(0.9, 0.01, (2, count))
  found = paired_difference(
    dict(enumerate(values.tolist())), dict(enumerate(reference.tolist()))
  )
  test = stats.ttest_rel(values, reference).confidence_interval(0.95)
  np.testing.assert_allclose(
    [found.low, found.high], [test.low, test.high], rtol=1e-9
  )


def test_one_value_has_no_interval():
  found = mean_interval([0.5])
  assert (found.mean, found.half_width, found.num_values) == (0.5, None, 1)
  assert (found.low, found.high) == (0.5, 0.5)


def test_difference_is_over_what_both_have():
  found = paired_difference({0: 0.5, 1: 0.75, 9: 0.0}, {0: 0.25, 1: 0.5, 7: 1})
  assert (found.mean, found.half_width, found.num_values) == (0.25, 0.0, 2)
  assert paired_difference({0: 0.5}, {1: 0.5}).num_values == 0
