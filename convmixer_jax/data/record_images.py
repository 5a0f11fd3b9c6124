"""Reads the images of TFDS records: files or arrays, of one feature or more."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convmixer_jax.data import array_files
from convmixer_jax.data.augment.resize import resize
from convmixer_jax.data.decode import count_pixels, decode_image
from convmixer_jax.data.features import split_names
from convmixer_jax.errors import UserError

_COLOURS = ((1, 3), (3, 1))  # channels of images that become others


class RecordImages:
  """Reads the image of a record from its features.

  Bands of several features are stacked in the order of their names. Where their
  sizes differ, they are resized to the largest one, bilinearly.

  Attributes:
    dtype: of the images.
  """

  def __init__(
    self,
    name: str,
    features: Mapping[str, Any],
    image_feature: str,
    channels: int,
  ):
    """Checks that the features have images of so many channels.

    Args:
      name: of the data set.
      features: TFDS's features of the data set.
      image_feature: `config.dataset.image_feature`.
      channels: wanted.

    Raises:
      UserError: a feature has no images, they differ in dtype, or there are
        other channels.
    """
    self._names = split_names(image_feature)
    self._channels = channels
    where = f'config.dataset.name = {name!r}'
    found = []
    for key in self._names:
      if key not in features:
        raise UserError(
          f'{where} has the features {", ".join(features)}, and no {key!r}; '
          'name that of the images: --config.dataset.image_feature=NAME'
        )
      found.append(_describe(where, key, features[key]))
    self._are_files = [is_file for is_file, _, _ in found]
    dtypes = {dtype for _, dtype, _ in found}
    if len(dtypes) > 1:
      raise UserError(
        f'{where}: its features {", ".join(self._names)} have values of '
        f'{", ".join(sorted(dtypes))}; name features of one dtype'
      )
    self.dtype = np.dtype(dtypes.pop())
    counts = [count for _, _, count in found]
    self._counts = counts
    is_convertible = len(counts) == 1 and (
      counts[0] is None
      or (self._are_files[0] and (counts[0], channels) in _COLOURS)
      or (counts[0], channels) == (1, 3)
    )
    if not is_convertible and sum(count or 0 for count in counts) != channels:
      total = sum(count or 0 for count in counts)
      raise UserError(
        f'{where} has images of {total} channel{"s"[: total != 1]} in '
        f'{", ".join(self._names)}, and config.dataset.mean has {channels} '
        f'value{"s"[: channels != 1]}; give mean and std of {total} values, '
        'or name other features: --config.dataset.image_feature=NAME'
      )

  def not_decoded(self) -> dict[str, Any]:
    """Returns the decoders that leave image files as they are, for TFDS."""
    import tensorflow_datasets as tfds

    return {
      name: tfds.decode.SkipDecoding()
      for name, is_file in zip(self._names, self._are_files, strict=True)
      if is_file
    }

  def stored(
    self, record: Mapping[str, Any], where: Callable[[], str]
  ) -> bytes:
    """Returns the image of a record as a file: its own, or one of NumPy."""
    if len(self._names) == 1:
      value = record[self._names[0]]
      return value if self._are_files[0] else array_files.encode_npy(value)
    bands = [
      self._decode_one(record[name], is_file, count, where)
      for name, is_file, count in zip(
        self._names, self._are_files, self._counts, strict=True
      )
    ]
    height = max(band.shape[0] for band in bands)
    width = max(band.shape[1] for band in bands)
    bands = [_resize(band, height, width) for band in bands]
    return array_files.encode_npy(np.concatenate(bands, axis=-1))

  def decode(self, data: bytes, where: Callable[[], str]) -> np.ndarray:
    """Returns the image `[H, W, C]` of what `stored` returned."""
    if self._is_bits(data):
      bits = decode_image(data, where, channels=4)
      data = array_files.encode_npy(bits.view(np.float32))
    return decode_image(data, where, channels=self._channels, dtype=self.dtype)

  def decoded_size(self, data: bytes) -> int:
    """Returns the bytes of an image, by the header of its file."""
    return self._channels * self.dtype.itemsize * count_pixels(data)

  def _is_bits(self, data):
    """Returns whether TFDS stored floats as the four bytes of RGBA."""
    return self.dtype == np.float32 and not array_files.is_npy(data)

  def _decode_one(self, value, is_file, count, where):
    if not is_file:
      value = array_files.encode_npy(value)
    elif self._is_bits(value):
      bits = decode_image(value, where, channels=4)
      value = array_files.encode_npy(bits.view(np.float32))
    return decode_image(value, where, channels=count or 1, dtype=self.dtype)


def count_feature_channels(
  features: Mapping[str, Any], image_feature: str
) -> int:
  """Returns the channels of features together; 3 where a feature has any."""
  names = split_names(image_feature)
  shapes = [features[name].shape for name in names if name in features]
  counts = [1 if len(shape) == 2 else shape[-1] or 3 for shape in shapes]
  return sum(counts) or 3


def _describe(where, key, feature):
  """Returns whether a feature has files, their dtype and channels (or None)."""
  import tensorflow_datasets as tfds

  is_file = isinstance(feature, tfds.features.Image)
  is_array = type(feature) is tfds.features.Tensor
  if not is_file and not is_array:
    raise UserError(
      f'{where}: its feature {key} is {type(feature).__name__}, not images '
      '(Image, or Tensor of height, width and channels); name another: '
      '--config.dataset.image_feature=NAME'
    )
  shape, dtype = feature.shape, np.dtype(feature.np_dtype).name
  if is_array and len(shape) not in (2, 3):
    raise UserError(
      f'{where}: its feature {key} has arrays of shape {shape}, not (height, '
      'width, channels); name another: --config.dataset.image_feature=NAME'
    )
  if dtype not in array_files.DTYPES:
    raise UserError(
      f'{where}: its feature {key} has values of {dtype}; uint8, uint16 and '
      'float32 are read; convert them, or choose another data set'
    )
  return is_file, dtype, 1 if len(shape) == 2 else shape[-1]


def _resize(band, height, width):
  if band.shape[:2] == (height, width):
    return band
  if band.dtype != np.uint16:
    return resize(band, height, width, 'bilinear')
  resized = resize(band.astype(np.float32), height, width, 'bilinear')
  return np.rint(resized).astype(np.uint16)
