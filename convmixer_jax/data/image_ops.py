"""The image operations of RandAugment, bit for bit as Pillow computes them.

Each takes a uint8 `[H, W, 3]` RGB image and returns a new one (or the image
itself where nothing changes). timm 1.0.31 calls the functions of Pillow's
`ImageOps`, `ImageEnhance` and `Image.transform`; those of one pixel at a time
are done here with the same arithmetic on arrays, which saves the conversions
and does not depend on the version of Pillow.
"""

import cv2
import numpy as np
from PIL import Image

cv2.setNumThreads(0)

Colour = tuple[int, int, int]
RESAMPLE = {
  'bilinear': Image.Resampling.BILINEAR,
  'bicubic': Image.Resampling.BICUBIC,
}
_IDENTITY = np.arange(256, dtype=np.uint8)
# Pillow's RGB to grey: ITU-R 601-2 luma in 16-bit fixed point.
_LUMA = np.array([19595, 38470, 7471], np.float32)
# Pillow's ImageFilter.SMOOTH.
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def auto_contrast(image: np.ndarray) -> np.ndarray:
  """Stretches each channel's range of values to 0..255."""
  columns = image.reshape(image.shape[0], -1)
  low = columns.min(axis=0).reshape(-1, 3).min(axis=0).astype(np.float64)
  high = columns.max(axis=0).reshape(-1, 3).max(axis=0).astype(np.float64)
  stretched = high > low
  scale = 255.0 / np.where(stretched, high - low, 255.0)
  offset = np.where(stretched, -low * scale, 0.0)
  table = _IDENTITY[:, None] * scale + offset
  return _apply_tables(image, np.clip(table, 0, 255).astype(np.uint8))


def equalize(image: np.ndarray) -> np.ndarray:
  """Makes each channel's histogram as even as a look-up table can."""
  tables = np.empty((256, 3), np.uint8)
  for channel in range(3):
    tables[:, channel] = _equalizing_table(
      cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel()
    )
  return _apply_tables(image, tables)


def _equalizing_table(histogram: np.ndarray) -> np.ndarray:
  histogram = histogram.astype(np.int64)
  (values,) = histogram.nonzero()
  step = (histogram.sum() - histogram[values[-1]]) // 255
  if len(values) == 1 or step == 0:
    return _IDENTITY
  below = np.cumsum(histogram) - histogram
  return np.minimum((step // 2 + below) // step, 255).astype(np.uint8)


def invert(image: np.ndarray) -> np.ndarray:
  """Replaces every value v by 255 - v."""
  return cv2.bitwise_not(image)


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
  """Keeps the `bits` (0 to 8) most significant bits of every value."""
  return image & np.uint8(256 - (1 << (8 - bits)))


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
  """Inverts the values that are at least `threshold` (0 to 256)."""
  inverted = np.where(_IDENTITY >= threshold, 255 - _IDENTITY, _IDENTITY)
  return cv2.LUT(image, inverted)


def solarize_add(image: np.ndarray, addend: int) -> np.ndarray:
  """Adds `addend` (0 to 128) to the values below 128, saturating."""
  added = np.minimum(_IDENTITY.astype(np.int64) + addend, 255)
  table = np.where(_IDENTITY < 128, added, _IDENTITY)
  return cv2.LUT(image, table.astype(np.uint8))


def color(image: np.ndarray, factor: float) -> np.ndarray:
  """Blends with the grey image: 0 gives that, 1 the image, 2 more colour."""
  return _blend(_grey(image)[..., None], image, factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
  """Blends with the mean grey: 0 gives a flat image, 1 the image."""
  grey = _grey(image)
  mean = int(int(grey.sum(dtype=np.int64)) / grey.size + 0.5)
  return cv2.LUT(image, _blend(np.uint8(mean), _IDENTITY, factor))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
  """Blends with black: 0 gives that, 1 the image, 2 a brighter one."""
  return cv2.LUT(image, _blend(np.uint8(0), _IDENTITY, factor))


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
  """Blends with the smoothed image: 0 gives that, 1 the image, 2 sharper.

  Pillow smooths no pixel of the border.
  """
  smooth = image.copy()
  # The kernel's sums are multiples of 1/13, never half-way: no ties to round.
  smooth[1:-1, 1:-1] = cv2.filter2D(image, -1, _SMOOTH)[1:-1, 1:-1]
  return _blend(smooth, image, factor)


def rotate(
  image: np.ndarray, degrees: float, resample: str, fill: Colour
) -> np.ndarray:
  """Rotates counter-clockwise around the centre."""
  rotated = Image.fromarray(image).rotate(
    degrees, RESAMPLE[resample], fillcolor=tuple(fill)
  )
  return np.asarray(rotated)


def shear_x(
  image: np.ndarray, factor: float, resample: str, fill: Colour
) -> np.ndarray:
  """Takes the value at (x, y) from (x + factor y, y)."""
  return _affine(image, (1, factor, 0, 0, 1, 0), resample, fill)


def shear_y(
  image: np.ndarray, factor: float, resample: str, fill: Colour
) -> np.ndarray:
  """Takes the value at (x, y) from (x, y + factor x)."""
  return _affine(image, (1, 0, 0, factor, 1, 0), resample, fill)


def translate_x(
  image: np.ndarray, fraction: float, resample: str, fill: Colour
) -> np.ndarray:
  """Takes the value at (x, y) from (x + fraction W, y)."""
  pixels = fraction * image.shape[1]
  return _affine(image, (1, 0, pixels, 0, 1, 0), resample, fill)


def translate_y(
  image: np.ndarray, fraction: float, resample: str, fill: Colour
) -> np.ndarray:
  """Takes the value at (x, y) from (x, y + fraction H)."""
  pixels = fraction * image.shape[0]
  return _affine(image, (1, 0, 0, 0, 1, pixels), resample, fill)


def _affine(image, matrix, resample, fill):
  picture = Image.fromarray(image)
  moved = picture.transform(
    picture.size,
    Image.Transform.AFFINE,
    matrix,
    RESAMPLE[resample],
    fillcolor=tuple(fill),
  )
  return np.asarray(moved)


def _apply_tables(image: np.ndarray, tables: np.ndarray) -> np.ndarray:
  """Looks up channel c of every pixel in `tables[:, c]` (uint8 `[256, 3]`)."""
  return cv2.LUT(image, tables[None])


def _grey(image: np.ndarray) -> np.ndarray:
  """Converts to grey as Pillow does, uint8 `[H, W]`."""
  # The sum is at most 255 * 65536: exact in float32.
  weighted = image.reshape(-1, 3).astype(np.float32) @ _LUMA
  grey = (weighted.astype(np.uint32) + 0x8000) >> 16
  return grey.astype(np.uint8).reshape(image.shape[:2])


def _blend(start, image, factor):
  """Returns start + factor (image - start), truncated, as `Image.blend`."""
  factor = np.float32(factor)  # Pillow computes in single precision
  difference = np.subtract(image, start, dtype=np.int16)
  values = start + factor * difference.astype(np.float32)
  return np.clip(values, 0, 255).astype(np.uint8)
