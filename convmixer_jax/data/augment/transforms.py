"""Transforms of a decoded image for training and evaluation, as in timm.

Training: random resized crop, horizontal flip, RandAugment. Evaluation: resize
of the short side, central crop. Normalisation, mixup and erasing follow on the
device.
"""

import math

import cv2
import ml_collections
import numpy as np

from convmixer_jax.config import ImageSize, height_width
from convmixer_jax.data.augment import rand_augment as rand_augment_lib
from convmixer_jax.data.augment.policies import POLICIES
from convmixer_jax.data.augment.resize import resize, resize_and_crop
from convmixer_jax.errors import UserError

Box = tuple[int, int, int, int]
CROP_ATTEMPTS = 10

# glibc returns freed arrays of an image's size to the system immediately, and
# the page faults of new ones take a tenth of the time of an example. After a
# larger array has been freed (this one, whose pages are never touched), glibc
# keeps that much memory.
np.empty(2**24, np.uint8)


def train_transform(
  image: np.ndarray,
  config: ml_collections.ConfigDict,
  size: ImageSize,
  rng: np.random.Generator,
) -> np.ndarray:
  """Applies the random transforms of training: crop, flip and RandAugment.

  The same as timm 1.0.31's `create_transform(is_training=True)` with
  `auto_augment='rand-m9-mstd0.5-inc1'`.

  Args:
    image: uint8, uint16 or float32 `[H, W, C]`.
    config: `augment`. RandAugment is for uint8 RGB.
    size: height and width h and w of the result, or the side of a square one,
      in pixels.
    rng: draws, in this order, the box of the crop, its interpolation, the flip
      and the operations of RandAugment.

  Returns:
    `[h, w, C]`; may share the memory of `image`. uint8, or float32, which of
    uint16 images is divided by 65,535.
  """
  image = to_float(image)
  height, width = image.shape[:2]
  if config.crop == 'random_resized':
    top, left, height, width = draw_box(
      height, width, config.crop_scale, config.crop_ratio, rng
    )
    image = image[top : top + height, left : left + width]
  interpolation = config.interpolation
  resample = interpolation
  if interpolation == 'random':
    resample = 'bicubic' if rng.random() < 0.5 else 'bilinear'
  image = resize(image, *height_width(size), resample)
  if rng.random() < config.flip:
    image = flip(image)
  return rand_augment_lib.rand_augment(
    image, config.rand_augment, interpolation, rng
  )


def eval_transform(
  image: np.ndarray, config: ml_collections.ConfigDict, size: ImageSize
) -> np.ndarray:
  """Resizes an image to cover size / `eval_crop_fraction`, crops the centre.

  The same as timm 1.0.31's `create_transform(interpolation=...)` for
  `eval_interpolation`, including the rounding: for a square, floor for both
  resized sides (224 / 0.96 gives 233), else to the nearest; half to even for
  the corner of the crop.

  Args:
    image: uint8, uint16 or float32 `[H, W, C]`.
    config: `augment`.
    size: height and width h and w of the result, or the side of a square one,
      in pixels.

  Returns:
    `[h, w, C]`, of the dtype that `train_transform` returns.
  """
  height, width = image.shape[:2]
  new_height, new_width, box = eval_geometry(height, width, config, size)
  return np.ascontiguousarray(
    resize_and_crop(
      to_float(image), new_height, new_width, config.eval_interpolation, box
    )
  )


def eval_geometry(
  height: int, width: int, config: ml_collections.ConfigDict, size: ImageSize
) -> tuple[int, int, Box]:
  """Returns what `eval_transform` resizes an image to, and crops.

  Args:
    height: of the image, in pixels.
    width: of the image, in pixels.
    config: see `eval_transform`.
    size: see `eval_transform`.

  Returns:
    Height and width of the resized image, and the box of the crop in it.
  """
  covered = tuple(
    math.floor(side / config.eval_crop_fraction) for side in height_width(size)
  )
  if covered[0] != covered[1]:
    ratio = min(height / covered[0], width / covered[1])
    new_height, new_width = round(height / ratio), round(width / ratio)
  elif height <= width:
    new_height, new_width = covered[0], int(covered[0] * width / height)
  else:
    new_height, new_width = int(covered[0] * height / width), covered[0]
  height, width = height_width(size)
  top = round((new_height - height) / 2.0)
  left = round((new_width - width) / 2.0)
  return new_height, new_width, (top, left, height, width)


def to_float(image: np.ndarray) -> np.ndarray:
  """Returns uint16 images in float32, from 0 to 1, and others as they are."""
  if image.dtype == np.uint16:
    return image.astype(np.float32) / np.float32(65535)
  return image


def flip(image: np.ndarray) -> np.ndarray:
  """Returns the mirror image, left to right."""
  if image.shape[-1] == 3 and image.dtype == np.uint8:
    return cv2.flip(image, 1)
  return np.ascontiguousarray(image[:, ::-1])


def draw_box(
  height: int,
  width: int,
  scale: tuple[float, float],
  ratio: tuple[float, float],
  rng: np.random.Generator,
) -> Box:
  """Draws the box of a random resized crop.

  Szegedy et al., arXiv 1409.4842, section 6, as in timm and torchvision: the
  area is uniform in `scale`, the logarithm of the aspect ratio is uniform in
  that of `ratio`; a box that does not fit is drawn again. After ten attempts:
  the largest central box whose aspect ratio is within `ratio`.

  Args:
    height: height of the image, in pixels.
    width: width of the image, in pixels.
    scale: smallest and largest area, as fractions of the area of the image.
    ratio: smallest and largest aspect ratio, width / height.
    rng: draws two uniform numbers for each attempt (area, aspect ratio), then
      two for the position (top, left).

  Returns:
    (top, left, height, width) in pixels.
  """
  low, high = math.log(ratio[0]), math.log(ratio[1])
  for _ in range(CROP_ATTEMPTS):
    u, v = rng.random(2).tolist()
    area = (scale[0] + (scale[1] - scale[0]) * u) * height * width
    aspect = math.exp(low + (high - low) * v)
    box_width = round(math.sqrt(area * aspect))
    box_height = round(math.sqrt(area / aspect))
    if 0 < box_width <= width and 0 < box_height <= height:
      u, v = rng.random(2).tolist()
      top = int(u * (height - box_height + 1))
      left = int(v * (width - box_width + 1))
      return top, left, box_height, box_width
  return central_box(height, width, ratio)


def central_box(height: int, width: int, ratio: tuple[float, float]) -> Box:
  """Returns the largest central box whose aspect ratio is within `ratio`.

  See `draw_box` for arguments and result.
  """
  box_height, box_width = height, width
  if width / height < ratio[0]:
    box_height = round(width / ratio[0])
  elif width / height > ratio[1]:
    box_width = round(height * ratio[1])
  top, left = (height - box_height) // 2, (width - box_width) // 2
  return top, left, box_height, box_width


def validate(config: ml_collections.ConfigDict) -> None:
  """Checks the values of `augment` against each other.

  Args:
    config: `augment`, each value of which `config.validate` has checked.

  Raises:
    UserError: names the field, its value and what it may be.
  """
  ops = config.rand_augment
  max_magnitude = POLICIES[ops.policy].max_magnitude
  if ops.magnitude > max_magnitude:
    raise UserError(
      f'config.augment.rand_augment.magnitude = {ops.magnitude!r} is not from '
      f'0 to {max_magnitude:g}'
    )
  if not ops.increasing and ops.policy != 'timm':
    raise UserError(
      "config.augment.rand_augment.increasing = False needs policy = 'timm'; "
      f'choose it, or increasing = True for the policy {ops.policy!r}'
    )
