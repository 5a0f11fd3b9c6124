"""Slices of class folders: each class has its share, whatever the slice."""

import numpy as np
import pytest

from convmixer_jax.data import slices
from convmixer_jax.errors import UserError

COUNTS = np.array([1, 2, 3, 10, 57, 1000])


def bounds(text, counts=COUNTS):
  (part,) = slices.parse(text)
  return slices.bounds(part, counts)


def test_percentages_cut_each_class_at_the_nearest_image():
  start, stop = bounds('train[25%:75%]', np.array([100, 10, 7]))
  assert start.tolist() == [25, 3, 2] and stop.tolist() == [75, 8, 5]


@pytest.mark.parametrize('percent', [1, 10, 50, '33.3', 90, 99])
def test_both_sides_of_a_cut_have_each_class_of_two_or_more(percent):
  _, stop = bounds(f'train[:{percent}%]')
  start, end = bounds(f'train[{percent}%:]')
  np.testing.assert_array_equal(stop, start)
  np.testing.assert_array_equal(end, COUNTS)
  assert (stop[1:] > 0).all() and (stop[1:] < COUNTS[1:]).all()


@pytest.mark.parametrize('number', [0, 1, 6, 500, 1073])
def test_numbers_of_images_are_exact_and_in_proportion(number):
  _, stop = bounds(f'train[:{number}]')
  start, _ = bounds(f'train[{number}:]')
  np.testing.assert_array_equal(stop, start)
  assert stop.sum() == number
  assert (np.abs(stop - number * COUNTS / COUNTS.sum()) <= 1).all()


def test_negative_ends_count_from_the_end():
  for text, same in (
    ('t[-10%:]', 't[90%:]'),
    ('t[:-73]', 't[:1000]'),
    ('t[-0%:]', 't[0%:]'),
  ):
    np.testing.assert_array_equal(bounds(text), bounds(same))


def test_end_before_the_start_is_empty():
  start, stop = bounds('train[80%:20%]')
  np.testing.assert_array_equal(start, stop)


@pytest.mark.parametrize('text', ['t[:101%]', 't[:1074]', 't[-200%:]'])
def test_slice_out_of_range_is_refused(text):
  with pytest.raises(UserError, match='out of range'):
    bounds(text)


@pytest.mark.parametrize('text', ['', 't[', 't[1]', 't[a:b]', 't+', 't[::2]'])
def test_other_syntax_is_refused(text):
  with pytest.raises(UserError, match='is not a split or a slice'):
    slices.parse(text)


def test_order_within_a_class_is_fixed():
  names = [b'%d.jpg' % i for i in range(6)]
  order = slices.hash_order('cat', names)
  assert sorted(order) == list(range(6))
  # By sha256sum of 'cat/0.jpg' and so on.
  assert order.tolist() == [3, 0, 1, 5, 4, 2]
