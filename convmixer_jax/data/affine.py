"""Rotation, shears and translations, bit for bit as Pillow computes them.

A shear or a translation moves each row (or column) by an amount of its own,
so it interpolates along one axis only: a few passes over float32 arrays. The
few results whose float32 error could cut them to another integer are computed
again in Pillow's order of double-precision operations. Rotation, which moves
pixels along both axes, is left to Pillow.
"""

import functools
import itertools

import cv2
import numpy as np
from PIL import Image

from convmixer_jax.data import scratch

cv2.setNumThreads(0)

Colour = tuple[int, int, int]
_RESAMPLE = {
  'bilinear': Image.Resampling.BILINEAR,
  'bicubic': Image.Resampling.BICUBIC,
}
# Above the float32 error of a sum of four terms, which are below 512 in all.
_ERROR = 2.0**-13


def rotate(
  image: np.ndarray, degrees: float, resample: str, fill: Colour
) -> np.ndarray:
  """Rotates counter-clockwise around the centre, as `Image.rotate`.

  Args:
    image: uint8 `[H, W, 3]`.
    degrees: the angle.
    resample: 'bilinear' or 'bicubic'.
    fill: the colour of what comes in from outside the image.

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
  """Takes the value at (x, y) from (x + factor y, y); see `rotate`."""
  offsets = factor * (np.arange(image.shape[0]) + 0.5)
  return _shift_rows(image, offsets, resample, fill)


def shear_y(
  image: np.ndarray, factor: float, resample: str, fill: Colour
) -> np.ndarray:
  """Takes the value at (x, y) from (x, y + factor x); see `rotate`."""
  return cv2.transpose(shear_x(cv2.transpose(image), factor, resample, fill))


def translate_x(
  image: np.ndarray, fraction: float, resample: str, fill: Colour
) -> np.ndarray:
  """Takes the value at (x, y) from (x + fraction W, y); see `rotate`."""
  offset = np.array([fraction * image.shape[1]])
  return _shift_rows(image, offset, resample, fill)


def translate_y(
  image: np.ndarray, fraction: float, resample: str, fill: Colour
) -> np.ndarray:
  """Takes the value at (x, y) from (x, y + fraction H); see `rotate`."""
  return cv2.transpose(
    translate_x(cv2.transpose(image), fraction, resample, fill)
  )


def _shift_rows(
  image: np.ndarray, offsets: np.ndarray, resample: str, fill: Colour
) -> np.ndarray:
  """Takes row y at x + offsets[y], in pixels (float64, `[H]` or `[1]`)."""
  height, width, _ = image.shape
  whole = np.floor(offsets)
  first, weights = _weights(offsets - whole, resample)
  starts = np.broadcast_to(whole.astype(np.int64) + first, height)
  taps = _windows(image, starts, len(weights))
  sums = scratch.as_floats(0, taps[0])
  sums *= weights[0]
  for tap, weight in zip(taps[1:], weights[1:], strict=True):
    values = scratch.as_floats(1, tap)
    values *= weight
    sums += values
  # Pillow cuts off the fraction: the nearest integer to one half less. The
  # absolute value is that of what becomes 0.
  np.clip(sums, _ERROR, 255, out=sums)
  result = cv2.convertScaleAbs(sums, alpha=1.0, beta=_ERROR - 0.5)
  unsure = result != cv2.convertScaleAbs(sums, alpha=1.0, beta=-_ERROR - 0.5)
  # Where all taps are equal the result is the same integer, surely.
  varies = taps[0] != taps[1]
  for left, right in itertools.pairwise(taps[1:]):
    varies |= left != right
  unsure = np.flatnonzero(unsure & varies)
  if unsure.size:
    y, column = np.divmod(unsure, 3 * width)
    x, channel = np.divmod(column, 3)
    offset = np.broadcast_to(offsets, height)[y]
    result.flat[unsure] = _interpolate(image, x, y, channel, offset, resample)
  source = (np.arange(width) + 0.5) + offsets[:, None]
  inside = (source >= 0) & (source < width)
  moved = _background(height, width, tuple(fill)).copy()
  inside = np.broadcast_to(inside, (height, width)).astype(np.uint8)
  return cv2.copyTo(result.reshape(image.shape), inside, moved)


def _weights(d: np.ndarray, resample: str) -> tuple[int, list[np.ndarray]]:
  """Returns the position of the first tap, and every tap's float32 `[H, 1]`.

  The cubic is Keys' with a = -1.
  """
  if resample == 'bilinear':
    first, weights = 0, [1 - d, d]
  else:
    d2, d3 = d**2, d**3
    first = -1
    weights = [2 * d2 - d - d3, 1 - 2 * d2 + d3, d + d2 - d3, d3 - d2]
  return first, [weight.astype(np.float32)[:, None] for weight in weights]


def _windows(
  image: np.ndarray, starts: np.ndarray, count: int
) -> list[np.ndarray]:
  """Takes every row y from pixel starts[y] on, and from the next ones on.

  Returns:
    `count` arrays, uint8 `[H, 3 W]`. Beyond the sides the outermost pixel is
    repeated thrice; what comes after that is of no use.
  """
  height, width, _ = image.shape
  padded = cv2.copyMakeBorder(image, 1, 1, 3, 3, cv2.BORDER_REPLICATE)
  every = np.lib.stride_tricks.as_strided(
    padded, (padded.size - 3 * width + 1, 3 * width), (1, 1)
  )
  starts = np.clip(starts, -width, width) + 3
  starts = 3 * (starts + (np.arange(height) + 1) * (width + 6))
  return [every[starts + 3 * tap] for tap in range(count)]


@functools.lru_cache(maxsize=16)
def _background(height: int, width: int, fill: Colour) -> np.ndarray:
  background = np.empty((height, width, 3), np.uint8)
  background[:] = fill
  return background


def _interpolate(image, x, y, channel, offset, resample):
  """Computes single values as Pillow's Geometry.c does, in its order."""
  source = ((x + 0.5) + offset) - 0.5
  whole = np.floor(source).astype(np.int64)
  d = source - whole

  def tap(distance):
    column = np.clip(whole + distance, 0, image.shape[1] - 1)
    return image[y, column, channel].astype(np.float64)

  if resample == 'bilinear':
    value = tap(0) + (tap(1) - tap(0)) * d
  else:
    v1, v2, v3, v4 = tap(-1), tap(0), tap(1), tap(2)
    p3 = 2 * (v1 - v2) + v3 - v4
    value = v2 + d * ((-v1 + v3) + d * (p3 + d * (-v1 + v2 - v3 + v4)))
  return np.clip(value, 0, 255).astype(np.uint8)
