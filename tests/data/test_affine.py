"""Geometric operations equal Pillow's, on shapes not in timm's fixture."""

import numpy as np
import pytest
from PIL import Image

from convmixer_jax.data.augment import affine

FILL = (124, 116, 104)
RESAMPLE = {
  'nearest': Image.Resampling.NEAREST,
  'bilinear': Image.Resampling.BILINEAR,
  'bicubic': Image.Resampling.BICUBIC,
}
MATRIX = {
  'shear_x': lambda amount, _: (1, amount, 0, 0, 1, 0),
  'shear_y': lambda amount, _: (1, 0, 0, amount, 1, 0),
  'translate_x': lambda amount, size: (1, 0, amount * size[0], 0, 1, 0),
  'translate_y': lambda amount, size: (1, 0, 0, 0, 1, amount * size[1]),
}


def images():
  rng = np.random.default_rng(0)
  # Pillow itself transforms the first, which is small.
  for height, width in ((28, 28), (50, 61), (9, 270), (290, 11)):
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    yield noise
    yield np.uint8(255) * (noise > 200)  # sums that are integers


@pytest.mark.parametrize('resample', RESAMPLE)
@pytest.mark.parametrize('name', MATRIX)
def test_operation_equals_pillow(name, resample):
  # Whole and half pixels, where double precision decides, and others; larger
  # than RandAugment's, until nothing of the image is left.
  amounts = [0.0, 0.25, 0.5, 0.1, 1 / 3, 1.0, 2.5]
  amounts += np.random.default_rng(1).uniform(0, 0.5, 20).tolist()
  for image in images():
    picture = Image.fromarray(image)
    for amount in [*amounts, *(-amount for amount in amounts)]:
      expected = picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        MATRIX[name](amount, picture.size),
        RESAMPLE[resample],
        fillcolor=FILL,
      )
      actual = getattr(affine, name)(image, amount, resample, FILL)
      np.testing.assert_array_equal(
        actual, np.asarray(expected), f'{amount} on {image.shape}'
      )


@pytest.mark.parametrize('resample', RESAMPLE)
def test_rotate_equals_pillow(resample):
  image = next(images())
  for degrees in (-27.3, 0.0, 30.0):
    expected = Image.fromarray(image).rotate(
      degrees, RESAMPLE[resample], fillcolor=FILL
    )
    actual = affine.rotate(image, degrees, resample, FILL)
    np.testing.assert_array_equal(actual, np.asarray(expected))
