"""Resizing equals Pillow's."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from convmixer_jax.data.augment.resize import resize, resize_and_crop

RESAMPLE = {
  'bilinear': Image.Resampling.BILINEAR,
  'bicubic': Image.Resampling.BICUBIC,
}


def resize_with_pillow(image, height, width, resample):
  """Resizes in the order of Pillow 12, with any version of Pillow."""
  picture = Image.fromarray(image)
  picture = picture.resize((width, image.shape[0]), RESAMPLE[resample])
  return np.asarray(picture.resize((width, height), RESAMPLE[resample]))


def images(rng, height, width):
  """Yields noise, a smooth surface, and black and white."""
  yield rng.integers(0, 256, (height, width, 3), np.uint8)
  y, x = np.mgrid[:height, :width] / max(height, width)
  waves = np.stack([np.sin(9 * x), np.cos(7 * y), np.sin(5 * x * y)], -1)
  yield (127.5 + 127.5 * waves).astype(np.uint8)
  yield np.uint8(255) * rng.integers(0, 2, (height, width, 3), np.uint8)


@pytest.mark.parametrize('resample', RESAMPLE)
@pytest.mark.parametrize('size', [32, 57, 224])
def test_resize_equals_pillow(size, resample):
  rng = np.random.default_rng(size)
  # Shrunk up to 16 times, enlarged, unchanged; halves, which tie in rounding.
  sides = [1, 2, 5, size // 2, size - 1, size, size + 7, 2 * size, 16 * size]
  for height in sides:
    width = int(rng.choice(sides[:-1]))
    for image in images(rng, height, width):
      np.testing.assert_array_equal(
        resize(image, size, size, resample),
        resize_with_pillow(image, size, size, resample),
        f'{height}x{width}',
      )


@pytest.mark.parametrize('resample', RESAMPLE)
def test_every_crop_of_a_multiple_of_7_equals_pillow(resample):
  # 224 = 7 * 32: sides whose weights are short binary fractions, so that
  # results lie exactly between two integers.
  rng = np.random.default_rng(0)
  for side in range(7, 225, 7):
    image = rng.integers(0, 256, (side, 8, 3), np.uint8)
    np.testing.assert_array_equal(
      resize(image, 224, 8, resample),
      resize_with_pillow(image, 224, 8, resample),
      side,
    )


def test_tall_strip_is_shortened_first():
  # Pillow does so for images more than 100 times as tall as wide.
  strip = np.random.default_rng(0).integers(0, 256, (400, 3, 3), np.uint8)
  shortened = resize_with_pillow(strip, 50, 3, 'bicubic')
  expected = resize_with_pillow(shortened, 50, 50, 'bicubic')
  np.testing.assert_array_equal(resize(strip, 50, 50, 'bicubic'), expected)


def test_view_of_a_larger_image_is_resized():
  rng = np.random.default_rng(0)
  crop = rng.integers(0, 256, (90, 80, 3), np.uint8)[11:71, 5:64]
  np.testing.assert_array_equal(
    resize(crop, 48, 64, 'bicubic'),
    resize_with_pillow(np.ascontiguousarray(crop), 48, 64, 'bicubic'),
  )


@pytest.mark.parametrize('shape', [(90, 80), (7, 300), (300, 2), (33, 40)])
def test_box_equals_that_of_the_whole_result(shape):
  image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
  for height, width in [(50, 60), (33, 410), (90, 80)]:
    whole = resize(image, height, width, 'bicubic')
    top, left = height // 3, width // 5
    np.testing.assert_array_equal(
      resize_and_crop(image, height, width, 'bicubic', (top, left, 9, 11)),
      whole[top : top + 9, left : left + 11],
    )


def test_only_the_box_of_a_strip_is_computed():
  strip = np.random.default_rng(0).integers(0, 256, (2, 10**5, 3), np.uint8)
  middle = 112 * 10**5 // 2  # of 11,200,000 columns
  box = (0, middle - 112, 224, 224)
  tracemalloc.start()
  try:
    found = resize_and_crop(strip, 224, 112 * 10**5, 'bicubic', box)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert peak < 2**26
  # Far from its ends, a shorter strip gives the same.
  part = strip[:, 10**5 // 2 - 50 : 10**5 // 2 + 50]
  whole = resize(part, 224, 112 * 100, 'bicubic')
  np.testing.assert_array_equal(found, whole[:, 5600 - 112 : 5600 + 112])
