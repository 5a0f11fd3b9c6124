"""RandAugment: pixels against timm's, draws against their exact laws."""

import hashlib
import pathlib

import ml_collections
import numpy as np
import pytest
from scipy import stats

from convmixer_jax.data import rand_augment

FIXTURE = pathlib.Path(__file__).parent / 'fixtures/timm_rand_augment.npz'
FILL = (124, 116, 104)


@pytest.fixture(scope='module')
def timm():
  with np.load(FIXTURE) as arrays:
    return dict(arrays)


def config(**changes):
  return ml_collections.ConfigDict(
    {
      'num_ops': 2,
      'magnitude': 9.0,
      'magnitude_std': 0.5,
      'probability': 0.5,
      'increasing': True,
      'fill': FILL,
    }
    | changes
  )


def apply(timm, key):
  name, image, magnitude, negate, resample, increasing = key.split('/')
  draw = rand_augment.Draw(name, float(magnitude), negate == 'True', resample)
  return rand_augment.apply_operation(
    timm[f'image/{image}'], draw, increasing == 'True', FILL
  )


@pytest.mark.parametrize('name', rand_augment.OPERATIONS)
def test_operation_equals_timm(timm, name):
  whole = [key for key in timm if key.startswith(f'result/{name}/')]
  assert whole
  for key in whole:  # shows by how much, where digests only tell that
    np.testing.assert_array_equal(apply(timm, key[7:]), timm[key], key)
  stored = zip(timm['keys'], timm['digests'], strict=True)
  differ = [
    key
    for key, digest in stored
    if key.startswith(f'{name}/')
    and hashlib.sha256(apply(timm, key).tobytes()).hexdigest()[:16] != digest
  ]
  assert not differ


def test_operations_leave_their_input_alone(timm):
  image = timm['image/small']
  before = image.copy()
  for name in rand_augment.OPERATIONS:
    draw = rand_augment.Draw(name, 8.0, False, 'bilinear')
    out = rand_augment.apply_operation(image, draw, True, FILL)
    assert out.shape == image.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


def test_draws_follow_timms_laws():
  rng = np.random.default_rng(0)
  num_images = 6000
  images = [
    rand_augment.draw_operations(config(), 'random', rng)
    for _ in range(num_images)
  ]
  draws = [draw for image in images for draw in image]

  def p_value(observed, law):
    expected = np.array(law) * np.sum(observed)
    return stats.chisquare(observed, expected).pvalue

  lengths = np.bincount([len(image) for image in images])
  assert p_value(lengths, [0.25, 0.5, 0.25]) > 1e-3
  # With replacement: of 225 ordered pairs, 15 repeat an operation.
  same = sum(len(i) == 2 and i[0].operation == i[1].operation for i in images)
  assert p_value([same, lengths[2] - same], [1 / 15, 14 / 15]) > 1e-3
  of_each = [
    sum(draw.operation == name for draw in draws)
    for name in rand_augment.OPERATIONS
  ]
  assert len(of_each) == 15
  assert p_value(of_each, [1 / 15] * 15) > 1e-3
  for field, value in (('negate', True), ('resample', 'bicubic')):
    count = sum(getattr(draw, field) == value for draw in draws)
    assert p_value([count, len(draws) - count], [0.5, 0.5]) > 1e-3
  # A normal law, cut off at 10, where its upper tail gathers.
  magnitudes = np.array([draw.magnitude for draw in draws])
  clipped = magnitudes == 10.0
  tail = stats.norm.sf(10, 9, 0.5)
  p = stats.binomtest(int(clipped.sum()), len(draws), tail).pvalue
  assert magnitudes.max() == 10.0 and p > 1e-3
  law = stats.truncnorm(-18, 2, loc=9, scale=0.5)
  assert stats.kstest(magnitudes[~clipped], law.cdf).pvalue > 1e-3


def test_same_generator_gives_same_image(timm):
  image = timm['image/photo']
  first, second, other = (
    rand_augment.rand_augment(
      image, config(probability=1.0), 'random', np.random.default_rng(seed)
    )
    for seed in (3, 3, 4)
  )
  np.testing.assert_array_equal(first, second)
  assert not np.array_equal(first, other)


def test_interpolation_is_the_given_one():
  rng = np.random.default_rng(0)
  draws = rand_augment.draw_operations(config(num_ops=50), 'bilinear', rng)
  assert {draw.resample for draw in draws} == {'bilinear'}


def test_no_operations_is_off(timm):
  image = timm['image/small']
  rng = np.random.default_rng(0)
  out = rand_augment.rand_augment(image, config(num_ops=0), 'random', rng)
  np.testing.assert_array_equal(out, image)
