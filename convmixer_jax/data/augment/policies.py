"""Operations and strengths of RandAugment, as in timm and in torchvision.

Cubuk et al. (arXiv 1909.13719) leave details open, and the two libraries differ
in operations, strengths, interpolation and fill. `timm` is timm 1.0.31's
(`timm/data/auto_augment.py`), which the released ConvMixers were trained with;
`torchvision` is torchvision's (`transforms/autoaugment.py`, 31 magnitudes),
which the authors' script for CIFAR-10 uses.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from convmixer_jax.data.augment import affine, image_ops


class Draw(NamedTuple):
  """One operation to apply, with all random draws resolved."""

  operation: str
  magnitude: float  # 0 to the policy's `max_magnitude`
  negate: bool  # the other direction, for operations that have two
  resample: str  # of `affine.RESAMPLE`, for operations that move pixels


class Operation(NamedTuple):
  """A function of an image, and its strength.

  Attributes:
    function: takes the image, the strength if there is one and, if it moves
      pixels, the interpolation and the fill colour.
    strength: computes the strength from a draw and from whether the effect
      grows with the magnitude; None if the function takes no strength.
    moves_pixels: whether `function` takes an interpolation and a fill colour.
  """

  function: Callable[..., np.ndarray]
  strength: Callable[[Draw, bool], Any] | None = None
  moves_pixels: bool = False


class Policy(NamedTuple):
  """One library's RandAugment.

  Attributes:
    operations: by name; each is drawn with the same probability.
    max_magnitude: the largest magnitude.
    resample: the interpolation, or None to use that of the config.
  """

  operations: Mapping[str, Operation]
  max_magnitude: float
  resample: str | None = None


def _signed(draw: Draw, value: float) -> float:
  return -value if draw.negate else value


def _timm_signed(top: float) -> Callable[[Draw, bool], float]:
  return lambda draw, _: _signed(draw, draw.magnitude / 10.0 * top)


def _timm_bits_kept(draw: Draw, increasing: bool) -> int:
  bits = int(draw.magnitude / 10.0 * 4)
  return 4 - bits if increasing else bits


def _timm_threshold(draw: Draw, increasing: bool) -> int:
  threshold = int(draw.magnitude / 10.0 * 256)
  return 256 - threshold if increasing else threshold


def _timm_addend(draw: Draw, _: bool) -> int:
  return int(draw.magnitude / 10.0 * 110)


def _timm_factor(draw: Draw, increasing: bool) -> float:
  if not increasing:
    return draw.magnitude / 10.0 * 1.8 + 0.1
  return max(0.1, 1.0 + _signed(draw, draw.magnitude / 10.0 * 0.9))


def _torchvision_value(draw: Draw, top: float) -> float:
  """Returns the draw's value from 0 to `top`, rounded as by torch.linspace."""
  step = float(np.float32(top) / np.float32(30))
  if draw.magnitude < 15:
    value = step * draw.magnitude
  else:
    value = float(np.float32(top)) - step * (30 - draw.magnitude)
  return _signed(draw, float(np.float32(value)))


def _torchvision_signed(top: float) -> Callable[[Draw, bool], float]:
  return lambda draw, _: _torchvision_value(draw, top)


def _torchvision_factor(draw: Draw, _: bool) -> float:
  return 1.0 + _torchvision_value(draw, 0.9)


def _torchvision_bits_kept(draw: Draw, _: bool) -> int:
  return 8 - round(draw.magnitude / 7.5)


def _torchvision_threshold(draw: Draw, _: bool) -> int:
  return math.ceil(255 - 8.5 * draw.magnitude)


def _translate_x(image, fraction, resample, fill):
  """Shifts to the right by whole pixels, rounded towards zero."""
  fraction = -math.trunc(fraction * image.shape[1]) / image.shape[1]
  return affine.translate_x(image, fraction, resample, fill)


def _translate_y(image, fraction, resample, fill):
  """Shifts down by whole pixels, rounded towards zero."""
  fraction = -math.trunc(fraction * image.shape[0]) / image.shape[0]
  return affine.translate_y(image, fraction, resample, fill)


_TIMM = {
  'auto_contrast': Operation(image_ops.auto_contrast),
  'equalize': Operation(image_ops.equalize),
  'invert': Operation(image_ops.invert),
  'rotate': Operation(affine.rotate, _timm_signed(30.0), True),
  'posterize': Operation(image_ops.posterize, _timm_bits_kept),
  'solarize': Operation(image_ops.solarize, _timm_threshold),
  'solarize_add': Operation(image_ops.solarize_add, _timm_addend),
  'color': Operation(image_ops.color, _timm_factor),
  'contrast': Operation(image_ops.contrast, _timm_factor),
  'brightness': Operation(image_ops.brightness, _timm_factor),
  'sharpness': Operation(image_ops.sharpness, _timm_factor),
  'shear_x': Operation(affine.shear_x, _timm_signed(0.3), True),
  'shear_y': Operation(affine.shear_y, _timm_signed(0.3), True),
  'translate_x': Operation(affine.translate_x, _timm_signed(0.45), True),
  'translate_y': Operation(affine.translate_y, _timm_signed(0.45), True),
}
_TRANSLATION = _torchvision_signed(150.0 / 331.0)
_TORCHVISION = {
  'identity': Operation(np.copy),
  'shear_x': Operation(affine.shear_x, _torchvision_signed(0.3), True),
  'shear_y': Operation(affine.shear_y, _torchvision_signed(0.3), True),
  'translate_x': Operation(_translate_x, _TRANSLATION, True),
  'translate_y': Operation(_translate_y, _TRANSLATION, True),
  'rotate': Operation(affine.rotate, _torchvision_signed(30.0), True),
  'brightness': Operation(image_ops.brightness, _torchvision_factor),
  'color': Operation(image_ops.color, _torchvision_factor),
  'contrast': Operation(image_ops.contrast, _torchvision_factor),
  'sharpness': Operation(image_ops.sharpness, _torchvision_factor),
  'posterize': Operation(image_ops.posterize, _torchvision_bits_kept),
  'solarize': Operation(image_ops.solarize, _torchvision_threshold),
  'auto_contrast': Operation(image_ops.auto_contrast),
  'equalize': Operation(image_ops.equalize),
}
POLICIES = {
  'timm': Policy(_TIMM, 10.0),
  'torchvision': Policy(_TORCHVISION, 30.0, 'nearest'),
}
