"""The random draws of a batch at once: those of each image's generator."""

import grain
import numpy as np
import pytest

from convmixer_jax.data.augment import draws, rand_augment, transforms
from convmixer_jax.data.augment.policies import POLICIES
from convmixer_jax.data.train_rows import TrainRows
from convmixer_jax.errors import UserError

ROWS = np.array([0, 1, 62, 63, 10**6, 2**32 + 5])


@pytest.fixture
def config(config):
  config.batch_size = 8
  config.augment.rand_augment.policy = 'torchvision'
  config.augment.rand_augment.magnitude_std = 0.0
  return config


@pytest.mark.parametrize('count', [1, 4, 31])
def test_numbers_are_those_of_numpys_philox(count):
  key = np.array([2**64 - 5, 12345678901234567890], np.uint64)
  found = draws.Stream(key, 2**32 - 1).uniform(ROWS, count)
  for row, numbers in zip(ROWS, found, strict=True):
    bits = np.random.Philox(counter=[0, 0, 2**32 - 1, int(row)], key=key)
    expected = np.random.Generator(bits).random(count)
    np.testing.assert_array_equal(numbers, expected)


def record(config, rows, rng_of_row, size):
  """Draws one image after the other, as `train_transform` does."""
  augment = config.augment
  ops = augment.rand_augment
  names = list(POLICIES[ops.policy].operations)
  found = []
  for row in rows:
    rng = rng_of_row(int(row))
    box = 0, 0, *size
    if augment.crop == 'random_resized':
      box = transforms.draw_box(
        *size, augment.crop_scale, augment.crop_ratio, rng
      )
    cubic = augment.interpolation == 'bicubic'
    if augment.interpolation == 'random':
      cubic = rng.random() < 0.5
    flip = rng.random() < augment.flip
    applied = rand_augment.draw_operations(ops, 'bilinear', rng)
    operations = [(names.index(op.operation), op.negate) for op in applied]
    found.append((list(box), cubic, flip, operations))
  return found


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'crop': 'none'},
    {'crop': 'none', 'interpolation': 'bicubic', 'rand_augment.num_ops': 0},
    # No box fits for most images: the central one.
    {'crop_ratio': (0.02, 0.03), 'crop_scale': (0.5, 1.0)},
    {'crop_ratio': (5.0, 60.0), 'interpolation': 'bilinear'},
  ],
)
def test_draws_are_those_of_the_images_one_by_one(config, changes):
  config.augment.update_from_flattened_dict(changes)
  rows, numbers = TrainRows(37, config), np.arange(400)
  size = 19, 32

  def rng_of_row(row):
    key, seed = rows.stream
    bits = np.random.Philox(counter=[0, 0, seed, row], key=key)
    return np.random.Generator(bits)

  found = draws.draw(config.augment, *size, rows.stream, numbers)
  for number, (box, cubic, flip, operations) in enumerate(
    record(config, numbers, rng_of_row, size)
  ):
    assert found.box[number].tolist() == box
    assert (found.cubic[number], found.flip[number]) == (cubic, flip)
    applied = [
      (int(operation), bool(negate))
      for operation, negate in zip(
        found.operation[number], found.negate[number], strict=True
      )
      if operation >= 0
    ]
    assert applied == operations


def test_rows_have_the_generators_that_grain_gives_them(config):
  rows = TrainRows(37, config)
  dataset = grain.MapDataset.source(range(37)).seed(config.seed).shuffle()
  dataset = dataset[:32].repeat().random_map(lambda x, rng: (x, rng.random(6)))
  numbers = range(20, 90)
  expected = [dataset[number] for number in numbers]
  np.testing.assert_array_equal(
    rows.images(numbers), [image for image, _ in expected]
  )
  np.testing.assert_array_equal(
    rows.stream.uniform(np.array(numbers), 6),
    [random for _, random in expected],
  )


def test_other_generators_of_grain_are_refused(config, monkeypatch):
  def random_map(self, function):
    rng = np.random.default_rng(0)
    return self.map(lambda x: function(x, rng))

  monkeypatch.setattr(grain.MapDataset, 'random_map', random_map)
  with pytest.raises(UserError, match=r'random numbers of Grain 0\.2'):
    TrainRows(37, config)
