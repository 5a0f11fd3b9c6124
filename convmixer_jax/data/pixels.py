"""Brings the pixels of an image to the channels and the dtype of a set."""

import numpy as np

from convmixer_jax.errors import UserError

_WIDTHS = {'uint8': 0, 'uint16': 1, 'float32': 2}
_LUMA = 19595, 38470, 7471  # of Pillow's 'L', in 16-bit fixed point


class OtherPixels(UserError):
  """Pixels cannot be brought to what is wanted; says why, after a name."""


def convert(
  image: np.ndarray, channels: int, dtype: np.dtype | str | None = None
) -> np.ndarray:
  """Returns an image with the channels and the dtype that are wanted.

  Args:
    image: `[H, W, c]` of uint8, uint16 or float32.
    channels: wanted, C. Grey becomes RGB; else c must be C.
    dtype: wanted, None for any. uint8 becomes uint16 or float32, and uint16
      float32, by their ranges from 0 to 1.

  Returns:
    `[H, W, C]`, contiguous.

  Raises:
    OtherPixels: there are other channels, or `dtype` would lose values.
  """
  if image.shape[-1] == 1 and channels == 3:
    image = np.repeat(image, 3, axis=-1)
  if image.shape[-1] != channels:
    raise OtherPixels(describe_channels(image.shape, channels))
  return np.ascontiguousarray(_widen(image, dtype))


def describe_channels(found: tuple[int, ...], channels: int) -> str:
  """Returns the end of an error: which channels there are and are wanted.

  Args:
    found: shape of an image, with its channels last.
    channels: wanted.
  """
  count = found[-1]
  first = ' (its first axis has; channels are the last)'
  return (
    f'has {count} channel{"s"[: count != 1]}, and {channels} '
    f'{"is" if channels == 1 else "are"} wanted, as many as '
    f'config.dataset.mean has values{first if found[0] == channels else ""}; '
    f'convert it, or give config.dataset.mean and std of {count} values'
  )


def to_photo(image: np.ndarray, channels: int) -> np.ndarray:
  """Returns grey (and alpha) or RGB (and alpha) as grey or RGB.

  Args:
    image: uint8 or uint16 `[H, W, c]`, c from 1 to 4.
    channels: wanted; nothing is changed for others than one and three.
  """
  if channels not in (1, 3):
    return image
  if image.shape[-1] in (2, 4):
    image = image[..., :-1]
  if image.shape[-1] == 3 and channels == 1:
    total = image.astype(np.uint64) @ np.array(_LUMA, np.uint64)
    image = ((total + 2**15) >> np.uint64(16)).astype(image.dtype)[..., None]
  return image


def _widen(image, dtype):
  wanted = image.dtype if dtype is None else np.dtype(dtype)
  if wanted == image.dtype:
    return image
  if _WIDTHS[wanted.name] < _WIDTHS[image.dtype.name]:
    raise OtherPixels(
      f'has values of {image.dtype.name}, and {wanted.name} are wanted, which '
      'cannot hold them; convert it, or all other images to the same'
    )
  if wanted == np.uint16:
    return image.astype(np.uint16) * np.uint16(257)
  largest = np.float32(np.iinfo(image.dtype).max)
  return image.astype(np.float32) / largest
