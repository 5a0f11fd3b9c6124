"""The shape of the images that a network sees, by `config.dataset`."""

from collections.abc import Sequence
from typing import Any

import ml_collections

# A side of square images, or (height, width), in pixels.
ImageSize = int | Sequence[int]


def height_width(image_size: ImageSize) -> tuple[int, int]:
  """Returns (height, width) of a `config.dataset.image_size`."""
  if isinstance(image_size, int):
    return image_size, image_size
  height, width = image_size
  return height, width


def to_image_size(height: int, width: int) -> int | tuple[int, int]:
  """Returns the `config.dataset.image_size` of (height, width)."""
  return height if height == width else (height, width)


def describe_size(image_size: ImageSize) -> str:
  """Returns a size for people to read, such as '96 x 256' (height first)."""
  return ' x '.join(map(str, height_width(image_size)))


def num_channels(dataset: ml_collections.ConfigDict) -> int:
  """Returns the channels of images: as many as `config.dataset.mean` has."""
  return len(dataset.mean)


def image_shape(dataset: ml_collections.ConfigDict) -> tuple[int, int, int]:
  """Returns (height, width, channels) of the images that a network sees.

  Args:
    dataset: `config.dataset`, for its `image_size` and `mean`.
  """
  return *height_width(dataset.image_size), num_channels(dataset)


def eval_image_size(config: ml_collections.ConfigDict) -> ImageSize:
  """Returns the size of the images of an evaluation.

  Args:
    config: the whole config, which an earlier version may have written, or
      `TrainedModel.eval_config`.
  """
  return config.augment.get('eval_image_size') or config.dataset.image_size


def is_image_size(value: Any) -> bool:
  """Whether a value is a whole number or a pair of these."""
  if isinstance(value, (tuple, list)):
    return len(value) == 2 and all(type(side) is int for side in value)
  return type(value) is int  # so that True is not 1
