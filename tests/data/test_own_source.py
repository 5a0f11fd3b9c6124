"""Sources and augmentation that are given as objects."""

import threading

import numpy as np
import own_objects
import pytest
from own_objects import Squares, flip, wrap

from convmixer_jax.data import own_source, own_transform, pipeline
from convmixer_jax.errors import UserError


@pytest.fixture
def config(config):
  return own_objects.short(config)


@pytest.mark.parametrize(
  ('image', 'label', 'message'),
  [
    (np.zeros((8, 8, 3)), 0, 'is float64; give uint8, uint16 or float32'),
    (np.zeros((8, 8), np.uint8), 0, r'has shape \[8, 8\]; give \[H, W, 3\]'),
    (np.zeros((0, 8, 3), np.uint8), 0, 'without a pixel'),
    (np.full((8, 8, 3), np.nan, np.float32), 0, 'are not finite'),
    (None, 2, r'label of train_source\[0\] is 2, not from 0 to 1'),
    (None, -1, r'is -1, not from 0 to 1'),
    (None, 'dark', "is 'dark', not a whole number from 0 to 1"),
    (None, 0.5, 'is 0.5, not a whole number'),
  ],
)
def test_wrong_example_is_refused(config, image, label, message):
  with pytest.raises(UserError, match=message):
    wrap(Squares(4, image, label), config)


def test_several_labels_are_given_as_zeros_and_ones(config):
  config.dataset.multi_label = True
  source = wrap(Squares(4, label=np.array([0, 1])), config)
  np.testing.assert_array_equal(source[0]['label'], [0, 1])
  assert source.stored_example(0)[1] == [1]
  with pytest.raises(UserError, match='not 0 or 1 for each of 2 classes'):
    wrap(Squares(4, label=np.array([0, 2])), config)


def test_batches_have_the_images_that_the_transform_returns(config):
  source = wrap(Squares(32), config)

  def number(image, rng):
    return np.full_like(image, rng.integers(256))

  def read(first_step, count):
    batches = pipeline.train_batches(
      source, config, first_step=first_step, transform=number
    )
    values = [next(batches)['image'][:, 0, 0, 0] for _ in range(count)]
    batches.close()
    return values

  all_of_them = read(0, 4)
  assert len(np.unique(all_of_them)) > 20
  np.testing.assert_array_equal(read(2, 2), all_of_them[2:])


@pytest.mark.slow
def test_worker_processes_get_copies_of_source_and_transform(config, capfd):
  def batch(source, transform):
    batches = pipeline.train_batches(source, config, transform=transform)
    images = next(batches)['image']
    batches.close()
    return images

  source = wrap(Squares(32), config)
  expected = batch(source, flip)
  config.input.num_workers = 1
  np.testing.assert_array_equal(
    batch(source, lambda image, rng: flip(image, rng)), expected
  )


def test_what_cannot_be_copied_to_worker_processes_says_so(config):
  source = Squares(4)
  source.lock = threading.Lock()
  message = own_source.find_copy_obstacle(wrap(source, config), 'train_source')
  assert message.startswith('train_source cannot be copied to worker processes')
  assert own_source.find_copy_obstacle(wrap(Squares(4), config), 'x') is None
  assert pipeline.default_num_workers(wrap(Squares(4), config), 8) == 0


def test_transform_of_uint16_images_may_return_either_dtype():
  image = np.full((4, 4, 1), 65535, np.uint16)
  shape, rng = (4, 4, 1), np.random.default_rng(0)
  for function in (lambda x, _: x, lambda x, _: x.astype(np.float32) / 65535):
    result = own_transform.apply(function, image, rng, shape)
    assert result.dtype == np.float32 and (result == 1).all()


def test_transform_in_place_leaves_the_source_as_it_was():
  def darken(image, rng):
    image //= 2
    return image

  image, rng = np.full((4, 4, 3), 200, np.uint8), np.random.default_rng(0)
  for _ in range(2):
    result = own_transform.apply(darken, image, rng, (4, 4, 3))
    assert (result == 100).all()
