"""Crops and resizes a batch of images on the device, bit for bit as the host.

`data.augment.resize` computes what Pillow does: each axis by itself, first the
columns, with 22-bit fixed-point weights, rounded to uint8. Here a pass is a
product of the images and of a matrix for each image, in int32.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax.data.augment.resize import FRACTION_BITS, fixed_weights

_RESAMPLES = 'bilinear', 'bicubic'


class Matrices(NamedTuple):
  """Weights of one axis, for every length that a crop may have.

  Attributes:
    weights: int32 `[2, L, size, length]`, bilinear and bicubic; those of pixels
      beyond the crop are 0.
    first: int32, the length that `weights[:, 0]` is for; the others follow.
  """

  weights: np.ndarray
  first: np.ndarray


def make_matrices(lengths: Sequence[int], length: int, size: int) -> Matrices:
  """Returns the weights of one axis.

  Args:
    lengths: that a crop may have, in pixels: consecutive.
    length: of the axis.
    size: of the result.
  """
  weights = np.zeros((2, len(lengths), size, length), np.int32)
  row = np.arange(size)[:, None]
  for kind, resample in enumerate(_RESAMPLES):
    for number, cropped in enumerate(lengths):
      first, fixed, _ = fixed_weights(cropped, size, resample, 0, size)
      column = first[:, None] + np.arange(fixed.shape[1])
      # Zero weights pad the last terms, which may lie beyond the last pixel.
      column = np.minimum(column, length - 1)
      matrix = weights[kind, number]
      np.add.at(matrix, (np.broadcast_to(row, fixed.shape), column), fixed)
  return Matrices(weights, np.array(lengths[0], np.int32))


def matrix_bytes(
  lengths: Sequence[Sequence[int]],
  stored: Sequence[int],
  sizes: Sequence[int],
) -> int:
  """Returns the bytes of the matrices of all axes, of `make_matrices` each."""
  axes = zip(lengths, stored, sizes, strict=True)
  return sum(2 * 4 * len(of_axis) * side * size for of_axis, side, size in axes)


def crop_and_resize(
  images: jax.Array,
  box: jax.Array,
  cubic: jax.Array,
  rows: Matrices,
  columns: Matrices,
) -> jax.Array:
  """Resizes a box of each image.

  Args:
    images: uint8 `[B, H, W, C]`.
    box: int32 `[B, 4]`, top, left, height and width.
    cubic: bool `[B]`, bicubic instead of bilinear.
    rows: of axis H.
    columns: of axis W.

  Returns:
    uint8 `[B, h, w, C]`.
  """
  top, left, height, width = box.T
  images = _resize_columns(images, left, width, cubic, columns)
  images = _resize_columns(
    images.transpose(0, 2, 1, 3), top, height, cubic, rows
  )
  return images.transpose(0, 2, 1, 3)


def _resize_columns(images, start, length, cubic, matrices):
  last = images.shape[2] - 1
  column = jnp.minimum(start[:, None] + jnp.arange(last + 1), last)
  images = jnp.take_along_axis(images, column[:, None, :, None], axis=2)
  weights = jnp.asarray(matrices.weights)[
    cubic.astype(jnp.int32), length - matrices.first
  ]
  # At most 1.3 * 255 * 2**22, which is below 2**31.
  sums = jnp.einsum(
    'bik,bhkc->bhic',
    weights,
    images.astype(jnp.int32),
    preferred_element_type=jnp.int32,
  )
  sums = (sums + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS
  return jnp.clip(sums, 0, 255).astype(jnp.uint8)
