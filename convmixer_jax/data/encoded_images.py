"""What sources share that hold each image as the bytes of a file."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from convmixer_jax.data.decode import count_pixels, decode_image
from convmixer_jax.data.examples import Example, Origin
from convmixer_jax.data.labels import multi_hot
from convmixer_jax.errors import UserError

_MIN_SIDE = 2  # pixels
_MAX_TRIES = 16  # images that may be damaged before the dtype is assumed


class EncodedImages:
  """A base of sources: reads examples by decoding what is stored.

  All images have the dtype of the first one.

  See `Source` for the attributes.
  """

  num_classes: int
  class_names: tuple[str, ...]
  origin: Origin

  def __init__(self, *, exif_rotate: bool, channels: int):
    """Keeps how images are decoded.

    Args:
      exif_rotate: whether to turn images upright as their EXIF data says.
      channels: of the images.
    """
    self._exif_rotate = exif_rotate
    self._channels = channels

  def __len__(self) -> int:
    raise NotImplementedError

  def __getitem__(self, index: int) -> Example:
    return self.decode(index, *self.stored_example(index))

  def stored_example(self, index: int) -> tuple[bytes, Any]:
    """Returns the bytes of an image file, and its label."""
    raise NotImplementedError

  def where(self, index: int) -> str:
    """Returns which image it is, for an error."""
    raise NotImplementedError

  def decode(self, index: int, data: bytes, label: int | list[int]) -> Example:
    """Returns the example of what `stored_example` returned.

    A list of labels becomes an int32 array `[num_classes]` of 0 and 1.
    """
    image = decode_image(
      data,
      lambda: self.where(index),
      self._exif_rotate,
      channels=self._channels,
      dtype=self._dtype,
    )
    require_two_pixels(image, functools.partial(self.where, index))
    if isinstance(label, list):
      return {'image': image, 'label': multi_hot(label, self.num_classes)}
    return {'image': image, 'label': label}

  def decoded_size(self, data: bytes) -> int:
    """Returns the bytes of an image once it is decoded."""
    return self._channels * self._dtype.itemsize * count_pixels(data)

  @functools.cached_property
  def _dtype(self):
    """The dtype of the first image that can be decoded, and so of all."""
    for index in range(min(_MAX_TRIES, len(self))):
      with contextlib.suppress(UserError):  # which reading it reports
        data, _ = self.stored_example(index)
        where = functools.partial(self.where, index)
        return decode_image(
          data, where, channels=self._channels, dtype=None
        ).dtype
    return np.dtype(np.uint8)


def require_two_pixels(image: np.ndarray, where: Callable[[], str]) -> None:
  """Checks that both sides of an image have two pixels or more.

  Args:
    image: `[H, W, C]`.
    where: names the image, for the error.

  Raises:
    UserError: it is smaller, which placeholders are.
  """
  height, width = image.shape[:2]
  if min(height, width) < _MIN_SIDE:
    raise UserError(
      f'image {where()} is {height} x {width} pixels, which is too small; '
      'replace it or leave it out of the data set'
    )
