"""Pillow's antialiased resize, bit for bit, as products of small matrices.

Pillow resizes along x, rounds to uint8, then along y; each pass is a sparse
matrix of 22-bit fixed-point weights. Here a pass is a float32 product of that
matrix, split into blocks along its band; the few results whose float32 error
could round them the other way are computed again with integers.

This is the order of the passes up to Pillow 12. Pillow 13 shrinks many tall
boxes along y first, which changes some values by one or two; the published
accuracies were measured with the older order.
"""

import functools

import cv2
import numpy as np

cv2.setNumThreads(0)

# Of Pillow's Resample.c: PRECISION_BITS, and half the width of its filters.
FRACTION_BITS = 22
_ONE = 1 << FRACTION_BITS
_SUPPORT = {'bilinear': 1.0, 'bicubic': 2.0}
# Up to this many multiply-adds OpenBLAS does not start threads.
_MAX_BLOCK = 2**18
# Rounding to float32 is off by this at most below 512, where all sums are.
_ROUNDING = 2.0**-16
# Multiples of this, below 512, sum exactly, and are further from a half than
# the error assumed.
_COARSE = 2.0**-12


def resize(
  image: np.ndarray, height: int, width: int, resample: str
) -> np.ndarray:
  """Resizes an image as `PIL.Image.resize((width, height), resample)`.

  Args:
    image: uint8 or float32 `[H, W, C]`, need not be contiguous. Each channel
      is resized by itself; floats (Pillow's mode F) are neither rounded nor
      clipped.
    height: of the result, in pixels.
    width: of the result, in pixels.
    resample: 'bilinear' or 'bicubic' (Keys' kernel with a = -0.5); when
      shrinking, the kernel is widened by the scale.

  Returns:
    `[height, width, C]`, of the same dtype.
  """
  return resize_and_crop(image, height, width, resample, (0, 0, height, width))


def resize_and_crop(
  image: np.ndarray,
  height: int,
  width: int,
  resample: str,
  box: tuple[int, int, int, int],
) -> np.ndarray:
  """Returns a box of what `resize` returns, and computes only that.

  A strip of 2 x 20,000 pixels whose short side becomes 224 would be 2,240,000
  pixels long.

  Args:
    image: see `resize`.
    height: see `resize`.
    width: see `resize`.
    resample: see `resize`.
    box: (top, left, height, width) in the resized image.

  Returns:
    Of the box's height and width, and of the same dtype.
  """
  top, left, box_height, box_width = box
  rows: tuple[int, str, int, int] | None
  rows = height, resample, top, top + box_height
  columns = width, resample, left, left + box_width
  if image.shape[0] > 100 * image.shape[1] and image.shape[0] > height:
    image = _resize_first_axis(image, *rows)
    rows = None
  if image.shape[1] != width:
    image = _transpose(_resize_first_axis(_transpose(image), *columns))
  else:
    image = image[:, left : left + box_width]
  if rows is None:
    return image
  if image.shape[0] != height:
    return _resize_first_axis(image, *rows)
  return image[top : top + box_height]


def _transpose(image):
  """Swaps height and width; OpenCV is faster where it keeps three axes."""
  if image.shape[-1] == 3:
    return cv2.transpose(image)
  return np.ascontiguousarray(image.transpose(1, 0, 2))


def _resize_first_axis(image, full_size, resample, start, stop):
  """Returns the results `start` to `stop` of resizing to `full_size` rows."""
  if image.dtype != np.uint8:
    return _resize_floats(image, full_size, resample, start, stop)
  size = stop - start
  axis = image.shape[0], full_size, resample, start, stop
  rows = np.ascontiguousarray(image).reshape(image.shape[0], -1)
  num_values = rows.shape[1]
  first, fixed, exact = fixed_weights(*axis)
  block_size = _block_size(len(rows), full_size, fixed.shape[1], num_values)
  sources, matrices = _blocks(*axis, block_size, True)
  values = rows[sources].astype(np.float32)
  sums = np.matmul(matrices, values).reshape(-1, num_values)[:size]
  if resample == 'bicubic':  # its weights, and so its sums, can be negative
    cv2.threshold(sums, 0, 0, cv2.THRESH_TOZERO, sums)
  # Rounds and saturates; its absolute value only changes values that become 0.
  error = _error(fixed)
  result = cv2.convertScaleAbs(sums, alpha=1.0, beta=-error)
  above = cv2.convertScaleAbs(sums, alpha=1.0, beta=error)
  result[exact] = above[exact]  # Pillow rounds a half up
  uncertain = np.flatnonzero(result != above)
  if uncertain.size:
    row, column = np.divmod(uncertain, num_values)
    # Zero weights pad the last terms, which may lie beyond the last row.
    terms = np.arange(fixed.shape[1]) + first[row, None]
    terms = rows[np.minimum(terms, len(rows) - 1), column[:, None]]
    total = (terms * fixed[row]).sum(axis=1) + _ONE // 2
    result.flat[uncertain] = (total >> FRACTION_BITS).clip(0, 255)
  return result.reshape(size, *image.shape[1:])


def _resize_floats(image, full_size, resample, start, stop):
  """Returns what `_resize_first_axis` does, of float32 and without rounding."""
  axis = image.shape[0], full_size, resample, start, stop
  rows = np.ascontiguousarray(image).reshape(image.shape[0], -1)
  _, weights = _float_weights(*axis)
  size = _block_size(len(rows), full_size, weights.shape[1], rows.shape[1])
  sources, matrices = _blocks(*axis, size, False)
  sums = np.matmul(matrices, rows[sources]).reshape(-1, rows.shape[1])
  return sums[: stop - start].reshape(-1, *image.shape[1:])


def _weights(
  size_in: int, full_size: int, resample: str, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the weights of one axis, as Pillow computes them.

  Returns:
    `first` int64 `[size]` and float64 `[size, terms]`, where size is
    `stop - start`: result `start + i` is the sum over k of `weights[i, k]`
    times input `first[i] + k`.
  """
  scale = size_in / full_size
  widening = max(scale, 1.0)
  support = _SUPPORT[resample] * widening
  centre = (np.arange(start, stop) + 0.5) * scale
  first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
  last = np.minimum((centre + support + 0.5).astype(np.int64), size_in)
  offset = np.arange((last - first).max())
  distance = offset + first[:, None] - centre[:, None] + 0.5
  weights = _filter(np.abs(distance * (1.0 / widening)), resample)
  weights[offset >= (last - first)[:, None]] = 0.0
  # cumsum adds from left to right, as Pillow's loop does; sum does not.
  weights /= np.cumsum(weights, axis=1)[:, -1:]
  return first, weights


_float_weights = functools.lru_cache(maxsize=2048)(_weights)  # of float images


@functools.lru_cache(maxsize=2048)
def fixed_weights(
  size_in: int, full_size: int, resample: str, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the weights of one axis as Pillow's fixed-point numbers.

  Returns:
    `first` and, in int64, `fixed`: `_weights` times `_ONE`. Then the indices of
    results whose weights are so coarse that float32 sums are exact: these
    results can lie half-way between two integers.
  """
  first, weights = _weights(size_in, full_size, resample, start, stop)
  fixed = np.trunc(weights * _ONE + np.copysign(0.5, weights))
  coarse = (fixed % (_ONE * _COARSE) == 0).all(axis=1)
  coarse &= _error(fixed) < _COARSE
  return first, fixed.astype(np.int64), coarse.nonzero()[0]


def _error(fixed: np.ndarray) -> float:
  """Returns a bound of the float32 error of a sum of these terms."""
  # One rounding for each sum, one for all products, one for the value added.
  return (fixed.shape[1] + 2) * _ROUNDING


def _filter(x: np.ndarray, resample: str) -> np.ndarray:
  if resample == 'bilinear':
    return np.maximum(1.0 - x, 0.0)
  a = -0.5
  inner = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
  outer = (((x - 5) * x + 8) * x - 4) * a
  return np.where(x < 1.0, inner, np.where(x < 2.0, outer, 0.0))


@functools.lru_cache(maxsize=2048)
def _blocks(
  size_in: int,
  full_size: int,
  resample: str,
  start: int,
  stop: int,
  block_size: int,
  is_fixed: bool,
) -> tuple[np.ndarray, np.ndarray]:
  """Splits the matrix of one axis into blocks of `block_size` results.

  Args:
    size_in: see `_weights`, as those that follow.
    full_size: see above.
    resample: see above.
    start: see above.
    stop: see above.
    block_size: results of a block.
    is_fixed: whether the matrix has Pillow's fixed-point numbers.

  Returns:
    `sources` int64 `[blocks, depth]`, the inputs of each block, and float32
    `[blocks, block_size, depth]`, the matrices to multiply them by. The results
    of the blocks are consecutive; the last block may have unused ones.
  """
  axis = size_in, full_size, resample, start, stop
  if is_fixed:
    first, fixed, _ = fixed_weights(*axis)
    weights = fixed / _ONE  # 22 bits and a sign: exact in float32
  else:
    first, weights = _float_weights(*axis)
  result = np.arange(len(first))
  block = result // block_size
  column = (
    np.arange(weights.shape[1]) + (first - first[block * block_size])[:, None]
  )
  depth = column.max() + 1
  matrices = np.zeros((block[-1] + 1, block_size, depth), np.float32)
  row = (result % block_size)[:, None]
  matrices[block[:, None], row, column] = weights
  sources = first[::block_size, None] + np.arange(depth)
  return np.minimum(sources, size_in - 1), matrices


def _block_size(size_in, size, num_terms, num_values):
  for block_size in (16, 8, 4, 2):
    depth = block_size * size_in / size + num_terms
    if block_size * depth * num_values <= _MAX_BLOCK:
      return block_size
  return 1
