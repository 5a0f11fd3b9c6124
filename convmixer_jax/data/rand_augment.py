"""RandAugment as timm has it: `rand-m9-mstd0.5-inc1` and its relatives.

Cubuk et al., arXiv 1909.13719; the operations, their ranges and the noise on
the magnitude are those of timm 1.0.31 (`timm/data/auto_augment.py`), which
the released ConvMixers were trained with.
"""

from collections.abc import Callable
from typing import NamedTuple

import ml_collections
import numpy as np

from convmixer_jax.data import affine, image_ops

MAX_MAGNITUDE = 10.0


class Draw(NamedTuple):
  """One operation to apply, with all that chance has to say in it."""

  operation: str
  magnitude: float  # 0 to MAX_MAGNITUDE
  negate: bool  # the other direction, for operations that have two
  resample: str  # 'bilinear' or 'bicubic', for operations that move pixels


def _signed(draw: Draw, value: float) -> float:
  return -value if draw.negate else value


def _rotation(draw: Draw, _) -> float:
  return _signed(draw, draw.magnitude / MAX_MAGNITUDE * 30.0)


def _shear(draw: Draw, _) -> float:
  return _signed(draw, draw.magnitude / MAX_MAGNITUDE * 0.3)


def _translation(draw: Draw, _) -> float:
  return _signed(draw, draw.magnitude / MAX_MAGNITUDE * 0.45)


def _bits_kept(draw: Draw, increasing: bool) -> int:
  bits = int(draw.magnitude / MAX_MAGNITUDE * 4)
  return 4 - bits if increasing else bits


def _solarize_threshold(draw: Draw, increasing: bool) -> int:
  threshold = int(draw.magnitude / MAX_MAGNITUDE * 256)
  return 256 - threshold if increasing else threshold


def _solarize_addend(draw: Draw, _) -> int:
  return int(draw.magnitude / MAX_MAGNITUDE * 110)


def _enhancement(draw: Draw, increasing: bool) -> float:
  if not increasing:
    return draw.magnitude / MAX_MAGNITUDE * 1.8 + 0.1
  return max(0.1, 1.0 + _signed(draw, draw.magnitude / MAX_MAGNITUDE * 0.9))


class _Operation(NamedTuple):
  function: Callable[..., np.ndarray]
  strength: Callable[[Draw, bool], float] | None = None
  moves_pixels: bool = False


_OPERATIONS = {
  'auto_contrast': _Operation(image_ops.auto_contrast),
  'equalize': _Operation(image_ops.equalize),
  'invert': _Operation(image_ops.invert),
  'rotate': _Operation(affine.rotate, _rotation, True),
  'posterize': _Operation(image_ops.posterize, _bits_kept),
  'solarize': _Operation(image_ops.solarize, _solarize_threshold),
  'solarize_add': _Operation(image_ops.solarize_add, _solarize_addend),
  'color': _Operation(image_ops.color, _enhancement),
  'contrast': _Operation(image_ops.contrast, _enhancement),
  'brightness': _Operation(image_ops.brightness, _enhancement),
  'sharpness': _Operation(image_ops.sharpness, _enhancement),
  'shear_x': _Operation(affine.shear_x, _shear, True),
  'shear_y': _Operation(affine.shear_y, _shear, True),
  'translate_x': _Operation(affine.translate_x, _translation, True),
  'translate_y': _Operation(affine.translate_y, _translation, True),
}
OPERATIONS = tuple(_OPERATIONS)


def rand_augment(
  image: np.ndarray,
  config: ml_collections.ConfigDict,
  interpolation: str,
  rng: np.random.Generator,
) -> np.ndarray:
  """Draws operations and applies them, one after the other.

  Args:
    image: uint8 `[H, W, 3]`.
    config: `augment.rand_augment`.
    interpolation: 'bilinear' or 'bicubic' for the operations that move
      pixels, or 'random' to draw it for each.
    rng: see `draw_operations`.

  Returns:
    uint8 `[H, W, 3]`.
  """
  for draw in draw_operations(config, interpolation, rng):
    image = apply_operation(image, draw, config.increasing, config.fill)
  return image


def draw_operations(
  config: ml_collections.ConfigDict,
  interpolation: str,
  rng: np.random.Generator,
) -> list[Draw]:
  """Draws which operations to apply, and how.

  Each of `num_ops` operations is drawn from all 15, with replacement, and
  dropped with probability 1 - `probability`. The magnitude is normal around
  `magnitude` and clipped to 0..10; the sign is fair. Every place draws the
  same count of numbers, applied or not, so what a later place draws does not
  depend on an earlier one.

  Args:
    config: `augment.rand_augment`.
    interpolation: 'bilinear', 'bicubic' or 'random' (a fair choice of both).
    rng: gives 4 uniform numbers a place (operation, application, sign,
      interpolation), then one normal number a place (magnitude).

  Returns:
    The operations to apply, in order; from none to `num_ops`.
  """
  num_ops = config.num_ops
  choices = rng.random((num_ops, 4)).tolist()
  noise = rng.standard_normal(num_ops).tolist()
  draws = []
  for (which, applies, sign, cubic), deviation in zip(
    choices, noise, strict=True
  ):
    if applies >= config.probability:
      continue
    magnitude = config.magnitude + config.magnitude_std * deviation
    if interpolation == 'random':
      resample = 'bicubic' if cubic < 0.5 else 'bilinear'
    else:
      resample = interpolation
    draws.append(
      Draw(
        operation=OPERATIONS[int(which * len(OPERATIONS))],
        magnitude=min(max(magnitude, 0.0), MAX_MAGNITUDE),
        negate=sign < 0.5,
        resample=resample,
      )
    )
  return draws


def apply_operation(
  image: np.ndarray,
  draw: Draw,
  increasing: bool,
  fill: affine.Colour,
) -> np.ndarray:
  """Applies one operation; the same arguments always give the same pixels.

  Args:
    image: uint8 `[H, W, 3]`.
    draw: what to do.
    increasing: whether the effect of posterize, solarize, color, contrast,
      brightness and sharpness grows with the magnitude (timm's `inc1`).
    fill: the colour of what comes in from outside the image.

  Returns:
    uint8 `[H, W, 3]`.
  """
  function, strength, moves_pixels = _OPERATIONS[draw.operation]
  arguments = []
  if strength:
    arguments.append(strength(draw, increasing))
  if moves_pixels:
    arguments += [draw.resample, fill]
  return function(image, *arguments)
