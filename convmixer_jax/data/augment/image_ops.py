"""RandAugment's pointwise operations, bit for bit as Pillow computes them.

Each takes a uint8 `[H, W, 3]` RGB image and returns a new one. timm 1.0.31
calls Pillow's `ImageOps` and `ImageEnhance`; the same arithmetic on arrays
saves the conversions and does not depend on the version of Pillow. Operations
that move pixels are in `affine`.
"""

import cv2
import numpy as np

cv2.setNumThreads(0)

_IDENTITY = np.arange(256, dtype=np.uint8)
# Pillow's RGB to grey: ITU-R 601-2 luma in 16-bit fixed point.
_LUMA = np.array([[19595, 38470, 7471]], np.float32) / 65536
# Pillow's ImageFilter.SMOOTH.
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def auto_contrast(image: np.ndarray) -> np.ndarray:
  """Stretches each channel's range of values to 0..255."""
  columns = image.reshape(image.shape[0], -1)
  low = columns.min(axis=0).reshape(-1, 3).min(axis=0).astype(np.float64)
  high = columns.max(axis=0).reshape(-1, 3).max(axis=0).astype(np.float64)
  return _apply_tables(image, stretching_tables(low, high))


def stretching_tables(low: np.ndarray, high: np.ndarray) -> np.ndarray:
  """Returns what `auto_contrast` replaces each value by.

  Args:
    low: float64 `[N]`, the smallest value of each of N channels.
    high: float64 `[N]`, their largest.

  Returns:
    uint8 `[256, N]`.
  """
  stretched = high > low
  scale = 255.0 / np.where(stretched, high - low, 255.0)
  offset = np.where(stretched, -low * scale, 0.0)
  table = _IDENTITY[:, None] * scale + offset
  return np.clip(table, 0, 255).astype(np.uint8)


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
  _, ones = cv2.threshold(image, threshold - 1, 255, cv2.THRESH_BINARY)
  return image ^ ones


def solarize_add(image: np.ndarray, addend: int) -> np.ndarray:
  """Adds `addend` (0 to 127) to the values below 128."""
  _, addends = cv2.threshold(image, 127, addend, cv2.THRESH_BINARY_INV)
  return image + addends


def color(image: np.ndarray, factor: float) -> np.ndarray:
  """Blends with the grey image: 0 gives grey, 1 the image, 2 more colour."""
  return blend(cv2.cvtColor(_grey(image), cv2.COLOR_GRAY2RGB), image, factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
  """Blends with the mean grey: 0 gives a flat image, 1 the image."""
  grey = _grey(image)
  mean = np.uint8(int(cv2.sumElems(grey)[0] / grey.size + 0.5))
  return cv2.LUT(image, blend(np.full(256, mean), _IDENTITY, factor))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
  """Blends with black: 0 gives black, 1 the image, 2 a brighter one."""
  return cv2.LUT(image, blend(np.zeros_like(_IDENTITY), _IDENTITY, factor))


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
  """Blends with the smoothed image: 0 gives smooth, 1 the image, 2 sharper.

  As in Pillow, the pixels of the border are not smoothed.
  """
  smooth = image.copy()
  # The kernel's sums are multiples of 1/13, never half-way: no ties to round.
  smooth[1:-1, 1:-1] = cv2.filter2D(image, -1, _SMOOTH)[1:-1, 1:-1]
  return blend(smooth, image, factor)


def _apply_tables(image: np.ndarray, tables: np.ndarray) -> np.ndarray:
  """Looks up channel c of every pixel in `tables[:, c]` (uint8 `[256, 3]`)."""
  return cv2.LUT(image, tables[None])


def _grey(image: np.ndarray) -> np.ndarray:
  """Converts to grey as Pillow does, uint8 `[H, W]`."""
  # Multiples of 2^-16 below 256, and so are all sums: exact in float32.
  grey = np.asarray(cv2.transform(image.astype(np.float32), _LUMA), np.float32)
  grey += np.float32(0.5)
  return grey.astype(np.uint8).reshape(image.shape[:2])


def blend(start: np.ndarray, image: np.ndarray, factor: float) -> np.ndarray:
  """Returns start + factor (image - start), clipped, as `Image.blend`."""
  origin = start.astype(np.float32)  # Pillow computes in single precision
  values = image.astype(np.float32)
  values -= origin
  values *= np.float32(factor)
  values += origin
  if factor > 1:
    np.clip(values, 0, 255, out=values)
  return values.astype(np.uint8)
