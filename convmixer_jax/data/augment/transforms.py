"""Transforms of a decoded image for training and evaluation, as in timm.

Training: random resized crop, horizontal flip, RandAugment. Evaluation: resize
of the short side, central crop. Normalisation, mixup and erasing follow on the
device.
"""

import math

import cv2
import ml_collections
import numpy as np

from convmixer_jax.data.augment import rand_augment as rand_augment_lib
from convmixer_jax.data.augment.policies import POLICIES
from convmixer_jax.data.augment.resize import resize, resize_and_crop
from convmixer_jax.errors import UserError

Box = tuple[int, int, int, int]
_CROP_ATTEMPTS = 10

# glibc returns freed arrays of an image's size to the system immediately, and
# the page faults of new ones take a tenth of the time of an example. After a
# larger array has been freed (this one, whose pages are never touched), glibc
# keeps that much memory.
np.empty(2**24, np.uint8)


def train_transform(
  image: np.ndarray,
  config: ml_collections.ConfigDict,
  size: int,
  rng: np.random.Generator,
) -> np.ndarray:
  """Applies the random transforms of training: crop, flip and RandAugment.

  The same as timm 1.0.31's `create_transform(is_training=True)` with
  `auto_augment='rand-m9-mstd0.5-inc1'`.

  Args:
    image: uint8 `[H, W, 3]`.
    config: `augment`.
    size: height and width of the result, in pixels.
    rng: draws, in this order, the box of the crop, its interpolation, the flip
      and the operations of RandAugment.

  Returns:
    uint8 `[size, size, 3]`; may share the memory of `image`.
  """
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
  image = resize(image, size, size, resample)
  if rng.random() < config.flip:
    image = cv2.flip(image, 1)
  return rand_augment_lib.rand_augment(
    image, config.rand_augment, interpolation, rng
  )


def eval_transform(
  image: np.ndarray, config: ml_collections.ConfigDict, size: int
) -> np.ndarray:
  """Resizes the short side to size / `eval_crop_fraction`, crops the centre.

  The same as timm 1.0.31's `create_transform(interpolation='bicubic')`,
  including the rounding: floor for both resized sides (224 / 0.96 gives 233),
  half to even for the corner of the crop.

  Args:
    image: uint8 `[H, W, 3]`.
    config: `augment`.
    size: height and width of the result, in pixels.

  Returns:
    uint8 `[size, size, 3]`.
  """
  height, width = image.shape[:2]
  short = math.floor(size / config.eval_crop_fraction)
  if height <= width:
    new_height, new_width = short, int(short * width / height)
  else:
    new_height, new_width = int(short * height / width), short
  top = round((new_height - size) / 2.0)
  left = round((new_width - size) / 2.0)
  box = top, left, size, size
  return np.ascontiguousarray(
    resize_and_crop(image, new_height, new_width, 'bicubic', box)
  )


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
  for _ in range(_CROP_ATTEMPTS):
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
