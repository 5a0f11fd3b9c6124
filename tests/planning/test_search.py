"""The search for the largest batch that fits."""

import math

import pytest

from convmixer_jax.planning.search import largest_that_fits


def linear(capacity, per_image, fixed=0.0, reports_size=True):
  """A `measure` that remembers what it was asked."""
  asked = []

  def measure(batch):
    asked.append(batch)
    needed = fixed + per_image * batch
    fits = needed <= capacity
    return fits, needed if fits or reports_size else math.inf

  return measure, asked


@pytest.mark.parametrize('reports_size', [True, False])
@pytest.mark.parametrize('per_image', [0.02, 0.1, 0.24, 0.9])
@pytest.mark.parametrize('start', [64, 640])
def test_search_finds_the_largest_batch_that_fits(
  per_image, start, reports_size
):
  measure, asked = linear(100, per_image, fixed=3, reports_size=reports_size)
  fits, too_large = largest_that_fits(
    measure, start=start, unit=64, most=6400, capacity=100
  )
  assert fits % 64 == 0
  assert not fits or measure(fits)[0]
  if too_large is None:
    assert fits == 6400 or 6400 - fits <= fits // 16
  else:
    assert not measure(too_large)[0]
    assert too_large - fits <= max(64, fits // 16)
  assert len(asked) <= (8 if reports_size else 12)


def test_search_reports_when_no_batch_fits():
  measure, asked = linear(1, 1)
  assert largest_that_fits(
    measure, start=64, unit=64, most=6400, capacity=1
  ) == (0, 64)
  assert asked == [64]
