"""Rotation, shears and translations, bit for bit as Pillow computes them.

A shear or a translation shifts each row (or column) by its own amount, so it
interpolates along one axis only: a few passes over float32 arrays. The few
results whose float32 error could truncate them to another integer are computed
again in Pillow's order of double-precision operations. Rotations, which
interpolate along both axes, small images and nearest-neighbour interpolation
are left to Pillow.
"""

import functools
import itertools
import math

import cv2
import numpy as np
from PIL import Image

cv2.setNumThreads(0)

Colour = tuple[int, int, int]
_RESAMPLE = {
  'nearest': Image.Resampling.NEAREST,
  'bilinear': Image.Resampling.BILINEAR,
  'bicubic': Image.Resampling.BICUBIC,
}
# Above the float32 error of four products and their sum, which is below 512.
_ERROR = 2.0**-12
# Up to this many pixels Pillow's loop is faster than operations on arrays.
_SMALL = 48 * 48


def rotate(
  image: np.ndarray, degrees: float, resample: str, fill: Colour
) -> np.ndarray:
  """Rotates counter-clockwise around the centre, as `Image.rotate`.

  Args:
    image: uint8 `[H, W, 3]`.
    degrees: the angle.
    resample: 'nearest', 'bilinear' or 'bicubic'.
    fill: colour of the pixels that come from outside the image.

  Returns:
    uint8 `[H, W, 3]`.
  """
  rotated = Image.fromarray(image).rotate(
    degrees, _RESAMPLE[resample], fillcolor=tuple(fill)
  )
  return np.asarray(rotated)


def shear_x(
  image: np.ndarray, factor: float, resample: str, fill: Colour
) -> np.ndarray:
  """Shears: the value at (x, y) comes from (x + factor y, y); see `rotate`."""
  if _uses_pillow(image, resample):
    return _transform_with_pillow(
      image, (1, factor, 0, 0, 1, 0), resample, fill
    )
  return _shear_rows(image, factor, resample, fill)


def shear_y(
  image: np.ndarray, factor: float, resample: str, fill: Colour
) -> np.ndarray:
  """Shears: the value at (x, y) comes from (x, y + factor x); see `rotate`."""
  if _uses_pillow(image, resample):
    return _transform_with_pillow(
      image, (1, 0, 0, factor, 1, 0), resample, fill
    )
  columns = cv2.transpose(image)
  return cv2.transpose(_shear_rows(columns, factor, resample, fill))


def translate_x(
  image: np.ndarray, fraction: float, resample: str, fill: Colour
) -> np.ndarray:
  """Shifts: the value at (x, y) comes from (x + fraction W, y)."""
  offset = fraction * image.shape[1]
  if _uses_pillow(image, resample):
    return _transform_with_pillow(
      image, (1, 0, offset, 0, 1, 0), resample, fill
    )
  return _translate_rows(image, offset, resample, fill)


def translate_y(
  image: np.ndarray, fraction: float, resample: str, fill: Colour
) -> np.ndarray:
  """Shifts: the value at (x, y) comes from (x, y + fraction H)."""
  offset = fraction * image.shape[0]
  if _uses_pillow(image, resample):
    return _transform_with_pillow(
      image, (1, 0, 0, 0, 1, offset), resample, fill
    )
  columns = cv2.transpose(image)
  return cv2.transpose(_translate_rows(columns, offset, resample, fill))


def _uses_pillow(image, resample):
  return resample == 'nearest' or image.shape[0] * image.shape[1] <= _SMALL


def _transform_with_pillow(image, matrix, resample, fill):
  picture = Image.fromarray(image)
  moved = picture.transform(
    picture.size,
    Image.Transform.AFFINE,
    matrix,
    _RESAMPLE[resample],
    fillcolor=tuple(fill),
  )
  return np.asarray(moved)


def _shear_rows(image, factor, resample, fill):
  height, width, _ = image.shape
  offsets = factor * (np.arange(height) + 0.5)
  floor = np.floor(offsets)
  weights = _weights(offsets - floor, resample)
  taps = _shifted_rows(image, floor.astype(np.int64), len(weights))
  sums = taps[0].astype(np.float32)
  sums *= weights[0][:, None]
  for tap, weight in zip(taps[1:], weights[1:], strict=True):
    values = tap.astype(np.float32)
    values *= weight[:, None]
    sums += values
  # Saturates; its absolute value only changes values that become 0.
  np.clip(sums, _ERROR, 255, out=sums)
  result = cv2.convertScaleAbs(sums, alpha=1.0, beta=_ERROR - 0.5)
  below = cv2.convertScaleAbs(sums, alpha=1.0, beta=-_ERROR - 0.5)
  result, below = result.reshape(image.shape), below.reshape(image.shape)
  y, x, channel = _uncertain_positions(result, below, taps)
  result[y, x, channel] = _interpolate(
    image, x, y, channel, offsets[y], resample
  )
  source = (np.arange(width) + 0.5) + offsets[:, None]
  inside = (source >= 0) & (source < width)
  moved = _background(height, width, tuple(fill)).copy()
  return cv2.copyTo(result, inside.view(np.uint8), moved)


def _translate_rows(image, offset, resample, fill):
  height, width, _ = image.shape
  moved = _background(height, width, tuple(fill)).copy()
  source = (np.arange(width) + 0.5) + offset
  (inside,) = ((source >= 0) & (source < width)).nonzero()
  if not inside.size:
    return moved
  start, size = int(inside[0]), inside.size
  floor = math.floor(offset)
  weights = _weights(np.array([offset - floor]), resample)
  left = start + floor + 3 - (len(weights) > 2)
  padded = cv2.copyMakeBorder(image, 0, 0, 3, 3, cv2.BORDER_REPLICATE)
  part = padded[:, left : left + size + len(weights) - 1]
  result, below = (
    cv2.filter2D(
      part, -1, np.stack(weights, 1), anchor=(0, 0), delta=error - 0.5
    )[:, :size]
    for error in (_ERROR, -_ERROR)
  )
  taps = [part[:, tap : tap + size] for tap in range(len(weights))]
  y, x, channel = _uncertain_positions(result, below, taps)
  result[y, x, channel] = _interpolate(
    image, x + start, y, channel, offset, resample
  )
  moved[:, start : start + size] = result
  return moved


def _weights(d: np.ndarray, resample: str) -> list[np.ndarray]:
  """Returns the float32 weights of each tap, with the shape of `d`.

  The sample lies `d` after an integer position, which is the first tap; for
  'bicubic' (Keys' kernel with a = -1) the first tap is one position earlier.
  """
  if resample == 'bilinear':
    weights = [1 - d, d]
  else:
    d2, d3 = d**2, d**3
    weights = [2 * d2 - d - d3, 1 - 2 * d2 + d3, d + d2 - d3, d3 - d2]
  return [weight.astype(np.float32) for weight in weights]


def _shifted_rows(
  image: np.ndarray, offsets: np.ndarray, count: int
) -> list[np.ndarray]:
  """Returns each row y from pixel offsets[y] on.

  Returns:
    The `count` (2 or 4) taps of `_weights`, uint8 `[H, 3 W]`. Outside the image
    the edge pixel is repeated, and further outside values are not meaningful.
  """
  height, width, _ = image.shape
  padded = cv2.copyMakeBorder(image, 1, 1, 3, 3, cv2.BORDER_REPLICATE)
  every = np.lib.stride_tricks.as_strided(
    padded, (padded.size - 3 * width + 1, 3 * width), (1, 1)
  )
  starts = np.clip(offsets, -width, width) + (3 - (count > 2))
  starts = 3 * (starts + np.arange(1, height + 1) * (width + 6))
  return [every[starts + 3 * tap] for tap in range(count)]


def _uncertain_positions(
  result: np.ndarray, below: np.ndarray, taps: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Finds values that the float32 error may have truncated to another integer.

  Where all taps are equal, the result is certain: it is their value.
  """
  uncertain = result != below
  taps = [tap.reshape(result.shape) for tap in taps]
  varies = taps[0] != taps[1]
  for left, right in itertools.pairwise(taps[1:]):
    varies |= left != right
  uncertain &= varies
  row, channel = np.divmod(np.flatnonzero(uncertain), 3)
  y, x = np.divmod(row, result.shape[1])
  return y, x, channel


@functools.lru_cache(maxsize=16)
def _background(height: int, width: int, fill: Colour) -> np.ndarray:
  background = np.empty((height, width, 3), np.uint8)
  background[:] = fill
  return background


def _interpolate(image, x, y, channel, offset, resample):
  """Computes single values as Pillow's Geometry.c does, in the same order."""
  source = ((x + 0.5) + offset) - 0.5
  floor = np.floor(source).astype(np.int64)
  d = source - floor

  def tap(distance):
    column = np.clip(floor + distance, 0, image.shape[1] - 1)
    return image[y, column, channel].astype(np.float64)

  if resample == 'bilinear':
    value = tap(0) + (tap(1) - tap(0)) * d
  else:
    v1, v2, v3, v4 = tap(-1), tap(0), tap(1), tap(2)
    p3 = 2 * (v1 - v2) + v3 - v4
    value = v2 + d * ((-v1 + v3) + d * (p3 + d * (-v1 + v2 - v3 + v4)))
  return np.clip(value, 0, 255).astype(np.uint8)
