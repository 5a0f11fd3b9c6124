"""Pointwise operations equal Pillow's, on images not in timm's fixture."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from convmixer_jax.data.augment import image_ops


def images():
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (40, 31, 3), np.uint8)
  yield noise
  yield noise // 4 + 100  # a narrow range
  yield np.uint8(255) * (noise > 128)
  yield np.full((28, 28, 3), 93, np.uint8)  # nothing to stretch or equalize
  yield np.repeat(noise[..., :1], 3, axis=2)  # grey


@pytest.mark.parametrize('name', ['autocontrast', 'equalize', 'invert'])
def test_operation_without_strength_equals_pillow(name):
  ours = {'autocontrast': 'auto_contrast'}.get(name, name)
  for image in images():
    expected = getattr(ImageOps, name)(Image.fromarray(image))
    actual = getattr(image_ops, ours)(image)
    np.testing.assert_array_equal(actual, np.asarray(expected))


@pytest.mark.parametrize(
  'name, strengths', [('posterize', range(1, 9)), ('solarize', range(257))]
)
def test_operation_of_integer_strength_equals_pillow(name, strengths):
  for image in images():
    for strength in strengths:
      expected = getattr(ImageOps, name)(Image.fromarray(image), strength)
      actual = getattr(image_ops, name)(image, strength)
      np.testing.assert_array_equal(actual, np.asarray(expected))


def test_posterize_to_no_bits_is_black():
  # timm calls Pillow so at magnitude 10; Pillow 13 refuses it.
  assert not image_ops.posterize(next(images()), 0).any()


@pytest.mark.parametrize(
  'name', ['Color', 'Contrast', 'Brightness', 'Sharpness']
)
def test_enhancement_equals_pillow(name):
  factors = np.random.default_rng(1).uniform(0, 2, 30).tolist()
  for image in images():
    for factor in [0.1, 1.0, 1.9, *factors]:
      enhancer = getattr(ImageEnhance, name)(Image.fromarray(image))
      actual = getattr(image_ops, name.lower())(image, factor)
      np.testing.assert_array_equal(
        actual, np.asarray(enhancer.enhance(factor))
      )
