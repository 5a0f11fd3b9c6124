"""The random draws of many training images at once, without their pixels.

They are those that `transforms.train_transform` makes from the generator of
each image. Grain's generator of row n is NumPy's Philox whose 256-bit counter
starts at (0, 0, seed of the transform, n). Philox is a function of its counter,
so the numbers of all images of a batch are computed together.
"""

import math
from typing import NamedTuple

import ml_collections
import numpy as np

from convmixer_jax.data.augment.policies import POLICIES
from convmixer_jax.data.augment.transforms import CROP_ATTEMPTS, central_box

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
# Of Philox4x64-10, Salmon et al., "Parallel random numbers: as easy as 1, 2,
# 3", 2011.
_ROUNDS = 10
_MULTIPLIERS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_WEYL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


class Draws(NamedTuple):
  """What was drawn for each of B images.

  Attributes:
    box: int32 `[B, 4]`, top, left, height and width of the crop in pixels.
    cubic: bool `[B]`, whether the resize is bicubic.
    flip: bool `[B]`.
    operation: int32 `[B, N]`, number of each operation of RandAugment in its
      policy; -1 for one that is not applied.
    negate: bool `[B, N]`, whether the operation has its other direction.
  """

  box: np.ndarray
  cubic: np.ndarray
  flip: np.ndarray
  operation: np.ndarray
  negate: np.ndarray


class Stream(NamedTuple):
  """The generators of Grain's random transform.

  Attributes:
    key: uint64 `[2]`, of Philox.
    seed: of the transform.
  """

  key: np.ndarray
  seed: int

  def uniform(self, rows: np.ndarray, count: int) -> np.ndarray:
    """Returns the first numbers of the generators of rows.

    Args:
      rows: int `[B]`, numbers of rows.
      count: of numbers.

    Returns:
      float64 `[B, count]`, what `Generator.random(count)` returns.
    """
    blocks = -(-count // 4)
    first = np.arange(1, blocks + 1, dtype=np.uint64)  # counts, then computes
    shape = len(rows), blocks
    counter = (
      np.broadcast_to(first, shape),
      np.zeros(shape, np.uint64),
      np.full(shape, self.seed, np.uint64),
      np.broadcast_to(np.asarray(rows, np.uint64)[:, None], shape),
    )
    bits = np.stack(_philox(counter, self.key), axis=-1)
    values = (bits >> np.uint64(11)) * 2.0**-53
    return values.reshape(len(rows), 4 * blocks)[:, :count]


def draw(
  config: ml_collections.ConfigDict,
  height: int,
  width: int,
  stream: Stream,
  rows: np.ndarray,
) -> Draws:
  """Returns what `train_transform` draws for rows.

  Args:
    config: `config.augment`; if it has RandAugment, with a `magnitude_std` of
      0.
    height: of the stored images, in pixels.
    width: of the stored images, in pixels.
    stream: the generators.
    rows: int `[B]`, numbers of rows, counted from the start of training.
  """
  ops = config.rand_augment
  num_images = len(rows)
  crops = config.crop == 'random_resized'
  most = (2 * CROP_ATTEMPTS + 2 if crops else 0) + 2 + 4 * ops.num_ops
  numbers = stream.uniform(rows, most)
  position = np.zeros(num_images, np.int64)

  def take(count):
    nonlocal position
    found = np.take_along_axis(
      numbers, position[:, None] + np.arange(count), axis=1
    )
    position = position + count
    return found

  box = np.tile(np.array([0, 0, height, width], np.int32), (num_images, 1))
  if crops:
    box, position = _draw_boxes(config, height, width, numbers)
  if config.interpolation == 'random':
    cubic = take(1)[:, 0] < 0.5
  else:
    cubic = np.full(num_images, config.interpolation == 'bicubic')
  flip = take(1)[:, 0] < config.flip
  choices = take(4 * ops.num_ops).reshape(num_images, ops.num_ops, 4)
  num_operations = len(POLICIES[ops.policy].operations)
  operation = (choices[..., 0] * num_operations).astype(np.int32)
  operation = np.where(choices[..., 1] < ops.probability, operation, -1)
  return Draws(
    box.astype(np.int32),
    cubic,
    flip,
    operation.astype(np.int32),
    choices[..., 2] < 0.5,
  )


def _draw_boxes(config, height, width, numbers):
  """Returns boxes as `transforms.draw_box`, and how many numbers each took."""
  scale, ratio = config.crop_scale, config.crop_ratio
  attempts = numbers[:, : 2 * CROP_ATTEMPTS].reshape(-1, CROP_ATTEMPTS, 2)
  area = scale[0] + (scale[1] - scale[0]) * attempts[..., 0]
  area = area * height * width
  low, high = math.log(ratio[0]), math.log(ratio[1])
  logarithm = low + (high - low) * attempts[..., 1]
  # Not NumPy's exp, whose last bit may differ from that of `draw_box`.
  aspect = np.fromiter(map(math.exp, logarithm.flat), float, logarithm.size)
  aspect = aspect.reshape(logarithm.shape)
  box_width = np.rint(np.sqrt(area * aspect)).astype(np.int64)
  box_height = np.rint(np.sqrt(area / aspect)).astype(np.int64)
  fits = (box_width > 0) & (box_width <= width)
  fits &= (box_height > 0) & (box_height <= height)
  first, found = np.argmax(fits, axis=1), fits.any(axis=1)
  every = np.arange(len(numbers))
  taken = np.where(found, 2 * first + 4, 2 * CROP_ATTEMPTS)
  corner = np.take_along_axis(
    numbers, (taken - 2)[:, None] + np.arange(2), axis=1
  )
  box_height, box_width = box_height[every, first], box_width[every, first]
  top = (corner[:, 0] * (height - box_height + 1)).astype(np.int64)
  left = (corner[:, 1] * (width - box_width + 1)).astype(np.int64)
  boxes = np.stack([top, left, box_height, box_width], axis=1)
  central = central_box(height, width, ratio)
  return np.where(found[:, None], boxes, np.array(central)), taken


def _philox(counter, key):
  """Returns the four 64-bit words of blocks of Philox4x64-10."""
  c0, c1, c2, c3 = counter
  k0, k1 = np.asarray(key, np.uint64)
  with np.errstate(over='ignore'):
    for _ in range(_ROUNDS):
      high0, low0 = _multiply(_MULTIPLIERS[0], c0)
      high1, low1 = _multiply(_MULTIPLIERS[1], c2)
      c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
      k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
  return c0, c1, c2, c3


def _multiply(a, b):
  """Returns the high and low 64 bits of products of 64-bit numbers."""
  a_high, a_low = a >> _HALF, a & _LOW
  b_high, b_low = b >> _HALF, b & _LOW
  low = a_low * b_low
  middle = a_high * b_low + (low >> _HALF)
  middle_low = a_low * b_high + (middle & _LOW)
  high = a_high * b_high + (middle >> _HALF) + (middle_low >> _HALF)
  return high, (middle_low << _HALF) | (low & _LOW)
