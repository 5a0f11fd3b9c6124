"""RandAugment: pixels and distributions equal timm's and torchvision's."""

import hashlib
import pathlib

import ml_collections
import numpy as np
import pytest
from scipy import stats

from convmixer_jax.data.augment import rand_augment
from convmixer_jax.data.augment.policies import POLICIES, Draw

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
FILL = (124, 116, 104)


@pytest.fixture(scope='module')
def timm():
  with np.load(FIXTURES / 'timm_rand_augment.npz') as arrays:
    return dict(arrays)


@pytest.fixture(scope='module')
def torchvision():
  with np.load(FIXTURES / 'torchvision_rand_augment.npz') as arrays:
    return dict(arrays)


def config(**changes):
  return ml_collections.ConfigDict(
    {
      'num_ops': 2,
      'policy': 'timm',
      'magnitude': 9.0,
      'magnitude_std': 0.5,
      'probability': 0.5,
      'increasing': True,
      'fill': FILL,
    }
    | changes
  )


def apply_as_timm(key, images):
  name, image, magnitude, negate, resample, increasing = key.split('/')
  draw = Draw(name, float(magnitude), negate == 'True', resample)
  return rand_augment.apply_operation(
    images[f'image/{image}'], draw, increasing == 'True', FILL, 'timm'
  )


def apply_as_torchvision(key, images):
  name, image, magnitude, negate = key.split('/')
  draw = Draw(name, float(magnitude), negate == 'True', 'nearest')
  return rand_augment.apply_operation(
    images[f'image/{image}'], draw, True, (0, 0, 0), 'torchvision'
  )


def check_operation(name, stored, images, apply):
  arrays = [key for key in stored if key.startswith(f'result/{name}/')]
  assert arrays
  for key in arrays:  # show the size of a difference, which digests do not
    np.testing.assert_array_equal(apply(key[7:], images), stored[key], key)
  differ = [
    key
    for key, digest in zip(stored['keys'], stored['digests'], strict=True)
    if key.startswith(f'{name}/')
    and hashlib.sha256(apply(key, images).tobytes()).hexdigest()[:16] != digest
  ]
  assert not differ


@pytest.mark.parametrize('name', POLICIES['timm'].operations)
def test_operation_equals_timm(timm, name):
  check_operation(name, timm, timm, apply_as_timm)


@pytest.mark.parametrize('name', POLICIES['torchvision'].operations)
def test_operation_equals_torchvision(timm, torchvision, name):
  check_operation(name, torchvision, timm, apply_as_torchvision)


def test_torchvision_draws_uniformly_with_its_own_interpolation():
  settings = config(
    policy='torchvision', magnitude=12.0, magnitude_std=0.0, probability=1.0
  )
  rng = np.random.default_rng(0)
  images = [
    rand_augment.draw_operations(settings, 'random', rng) for _ in range(5000)
  ]
  assert {len(image) for image in images} == {2}
  draws = [draw for image in images for draw in image]
  assert {(draw.magnitude, draw.resample) for draw in draws} == {
    (12.0, 'nearest')
  }
  names = [draw.operation for draw in draws]
  counts = [names.count(name) for name in POLICIES['torchvision'].operations]
  assert len(counts) == 14 and sum(counts) == len(draws)
  assert stats.chisquare(counts).pvalue > 1e-3
  negated = sum(draw.negate for draw in draws)
  assert stats.binomtest(negated, len(draws)).pvalue > 1e-3


def test_operations_do_not_change_their_input(timm):
  image = timm['image/small']
  before = image.copy()
  for policy, (operations, _, resample) in POLICIES.items():
    for name in operations:
      draw = Draw(name, 8.0, False, resample or 'bilinear')
      out = rand_augment.apply_operation(image, draw, True, FILL, policy)
      assert out.shape == image.shape and out.dtype == np.uint8
      assert not np.shares_memory(out, image)
      np.testing.assert_array_equal(image, before)


def test_draws_have_the_distributions_of_timm():
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
  counts = [
    sum(draw.operation == name for draw in draws)
    for name in POLICIES['timm'].operations
  ]
  assert len(counts) == 15
  assert p_value(counts, [1 / 15] * 15) > 1e-3
  for field, value in (('negate', True), ('resample', 'bicubic')):
    count = sum(getattr(draw, field) == value for draw in draws)
    assert p_value([count, len(draws) - count], [0.5, 0.5]) > 1e-3
  # A normal distribution, clipped at 10: its upper tail is at 10.
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


def test_given_interpolation_is_used():
  rng = np.random.default_rng(0)
  draws = rand_augment.draw_operations(config(num_ops=50), 'bilinear', rng)
  assert {draw.resample for draw in draws} == {'bilinear'}


def test_zero_operations_leave_the_image_unchanged(timm):
  image = timm['image/small']
  rng = np.random.default_rng(0)
  out = rand_augment.rand_augment(image, config(num_ops=0), 'random', rng)
  np.testing.assert_array_equal(out, image)
