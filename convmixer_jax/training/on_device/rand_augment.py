"""RandAugment of a batch on the device, bit for bit as on the host.

It is for torchvision's policy, whose operations move whole pixels and which
draws no magnitude: so each has at most two strengths, and what it does is in
tables that the functions of the host make. An operation is one of three steps,
and each image takes all of them, two without an effect:

1. a move: each pixel comes from another place, or is the fill colour;
2. a look-up of each channel's values in a table;
3. a blend with another image (grey, smooth or of one grey): a look-up by two
   values.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from convmixer_jax.data.augment import image_ops
from convmixer_jax.data.augment.policies import POLICIES, Draw
from convmixer_jax.data.augment.rand_augment import apply_operation

_LOOK_UPS = 'brightness', 'posterize', 'solarize'  # without statistics
_KINDS = 'auto_contrast', 'equalize', 'contrast', 'color', 'sharpness'
_AUTO_CONTRAST, _EQUALIZE, _CONTRAST, _COLOR, _SHARPNESS = range(5)
_OTHER = -1
_LUMA = 19595, 38470, 7471  # Pillow's RGB to grey, in 16-bit fixed point


class Tables(NamedTuple):
  """What the operations do; a variant is an operation in one direction.

  Variant 2 n is operation n of the policy, 2 n + 1 is its other direction, and
  the last one leaves images as they are.

  Attributes:
    move: int32 `[V, H * W]`, the pixel that comes there; -1: the fill colour.
    move_row: int32, row of `move` for each variant.
    look_up: uint8 `[V, 256]`.
    look_up_row: int32, row of `look_up` for each variant.
    blend: uint8 `[V, 256, 256]`, by value of the other image and of this one.
    blend_row: int32, row of `blend` for each variant.
    kind: int32, number of each variant in `_KINDS`, or -1.
    stretch: uint8 `[256, 256, 256]`, of auto_contrast, by smallest value,
      largest value and value.
    fill: uint8 `[3]`.
  """

  move: np.ndarray
  move_row: np.ndarray
  look_up: np.ndarray
  look_up_row: np.ndarray
  blend: np.ndarray
  blend_row: np.ndarray
  kind: np.ndarray
  stretch: np.ndarray
  fill: np.ndarray


def make_tables(
  config: ml_collections.ConfigDict, height: int, width: int
) -> Tables:
  """Returns the tables for images of one size.

  Args:
    config: `augment.rand_augment`.
    height: of the images, in pixels.
    width: of the images, in pixels.
  """
  policy = POLICIES[config.policy]
  values = np.arange(256, dtype=np.uint8)
  moves = [np.arange(height * width, dtype=np.int32)]
  look_ups, blends = [values], [np.broadcast_to(values, (256, 256))]
  rows, kinds = [], []
  for name, operation in policy.operations.items():
    for negate in (False, True):
      draw = Draw(name, config.magnitude, negate, policy.resample or '')
      row, kind = [0, 0, 0], _OTHER
      if operation.moves_pixels:
        row[0] = len(moves)
        moves.append(_sources(config, draw, height, width))
      elif name in _LOOK_UPS:
        row[1] = len(look_ups)
        ramp = np.broadcast_to(values[:, None, None], (256, 1, 3)).copy()
        look_ups.append(_apply(config, draw, ramp)[:, 0, 0])
      elif name in _KINDS:
        kind = _KINDS.index(name)
        if operation.strength:
          row[2] = len(blends)
          factor = operation.strength(draw, config.increasing)
          blends.append(_blended(values, factor))
      elif name != 'identity':
        raise ValueError(f'{name} is not among the operations of the device')
      rows.append(row)
      kinds.append(kind)
  rows.append([0, 0, 0])
  kinds.append(_OTHER)
  move_row, look_up_row, blend_row = np.array(rows, np.int32).T
  return Tables(
    np.stack(moves),
    move_row,
    np.stack(look_ups),
    look_up_row,
    np.stack(blends),
    blend_row,
    np.array(kinds, np.int32),
    _stretching(),
    np.array(config.fill, np.uint8),
  )


def rand_augment(
  images: jax.Array, operation: jax.Array, negate: jax.Array, tables: Tables
) -> jax.Array:
  """Applies operations to images, one after the other.

  Args:
    images: uint8 `[B, H, W, 3]`, of the size of the tables.
    operation: int32 `[B, N]`, numbers of the operations; -1 for none.
    negate: bool `[B, N]`, their direction.
    tables: from `make_tables`.

  Returns:
    uint8 `[B, H, W, 3]`.
  """
  none = tables.kind.shape[0] - 1
  variants = jnp.where(operation < 0, none, 2 * operation + negate)
  for number in range(operation.shape[1]):
    images = _apply_variants(images, variants[:, number], tables)
  return images


def _apply_variants(images, variant, tables):
  shape = images.shape
  pixels = images.reshape(shape[0], -1, 3)
  kind = tables.kind[variant][:, None, None]

  source = tables.move[tables.move_row[variant]][..., None]
  moved = jnp.take_along_axis(pixels, jnp.maximum(source, 0), axis=1)
  pixels = jnp.where(source < 0, tables.fill, moved)

  low, high = pixels.min(axis=1), pixels.max(axis=1)
  table = tables.look_up[tables.look_up_row[variant]][:, None, :]
  table = jnp.where(kind == _AUTO_CONTRAST, tables.stretch[low, high], table)
  table = jnp.where(kind == _EQUALIZE, _equalizing(pixels, high), table)
  pixels = jnp.take_along_axis(
    table.transpose(0, 2, 1), pixels.astype(jnp.int32), axis=1
  )

  values = pixels.astype(jnp.int32)
  grey = sum(
    weight * values[..., channel] for channel, weight in enumerate(_LUMA)
  )
  grey = (grey + (1 << 15)) >> 16
  size = grey.shape[1]
  mean = (2 * grey.sum(axis=1) + size) // (2 * size)
  other = jnp.where(kind == _CONTRAST, mean[:, None, None], values)
  other = jnp.where(kind == _COLOR, grey[..., None], other)
  smooth = _smooth(values.reshape(shape)).reshape(values.shape)
  other = jnp.where(kind == _SHARPNESS, smooth, other)
  row = tables.blend_row[variant][:, None, None]
  return tables.blend[row, other, values].reshape(shape)


def _equalizing(pixels, high):
  """Returns `image_ops.equalize`'s tables `[B, 3, 256]`."""
  batch, _, channels = pixels.shape
  image = jnp.arange(batch)[:, None, None]
  histogram = jnp.zeros((batch, channels, 256), jnp.int32)
  histogram = histogram.at[image, jnp.arange(channels), pixels].add(1)
  of_last = jnp.take_along_axis(
    histogram, high[..., None].astype(jnp.int32), axis=-1
  )
  step = (pixels.shape[1] - of_last) // 255
  below = jnp.cumsum(histogram, axis=-1) - histogram
  table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
  return jnp.where(step == 0, jnp.arange(256), table).astype(jnp.uint8)


def _smooth(values):
  """Returns int32 images filtered as by `image_ops.sharpness`."""
  _, height, width, _ = values.shape
  padded = jnp.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
  total = 4 * values + sum(
    padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)
  )
  row, column = jnp.arange(height)[:, None], jnp.arange(width)
  inside = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
  return jnp.where(inside[..., None], (2 * total + 13) // 26, values)


def _apply(config, draw, image, fill=(0, 0, 0)):
  return apply_operation(image, draw, config.increasing, fill, config.policy)


def _sources(config, draw, height, width):
  """Returns which pixel an operation moves to each place; -1 for the fill."""
  number = np.arange(height * width).reshape(height, width)
  digits = number & 255, number >> 8 & 255, (number >> 16) + 1
  moved = _apply(config, draw, np.stack(digits, axis=-1).astype(np.uint8))
  low, middle, high = np.moveaxis(moved.astype(np.int32), -1, 0)
  source = low + (middle << 8) + (high - 1 << 16)
  return np.where(high == 0, -1, source).ravel()


def _blended(values, factor):
  start = np.repeat(values, 256)
  return image_ops.blend(start, np.tile(values, 256), factor).reshape(256, 256)


@functools.cache
def _stretching():
  high = np.arange(256.0)
  return np.stack(
    [
      image_ops.stretching_tables(np.full(256, low), high).T
      for low in np.arange(256.0)
    ]
  )
