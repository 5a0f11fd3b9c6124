"""RandAugment (Cubuk et al., arXiv 1909.13719): draws operations, applies them.

The operations and their strengths are in `policies`.
"""

import ml_collections
import numpy as np

from convmixer_jax.data.augment import affine
from convmixer_jax.data.augment.policies import POLICIES, Draw


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
      pixels, or 'random' to draw one for each operation.
    rng: see `draw_operations`.

  Returns:
    uint8 `[H, W, 3]`.
  """
  for draw in draw_operations(config, interpolation, rng):
    image = apply_operation(
      image, draw, config.increasing, config.fill, config.policy
    )
  return image


def draw_operations(
  config: ml_collections.ConfigDict,
  interpolation: str,
  rng: np.random.Generator,
) -> list[Draw]:
  """Draws the operations to apply, with their magnitudes.

  Each of `num_ops` operations is drawn from all of the policy's, with
  replacement, and dropped with probability 1 - `probability`. The magnitude is
  normal around `magnitude` and clipped to the policy's scale; the sign is
  positive or negative with equal probability. All operations draw the same
  count of random numbers, applied or not, so that no draw depends on an earlier
  operation.

  Args:
    config: `augment.rand_augment`.
    interpolation: 'bilinear', 'bicubic' or 'random' (one of both with equal
      probability), unless the policy prescribes one.
    rng: draws 4 uniform numbers for each operation (operation, application,
      sign, interpolation), then one normal number for each (magnitude).

  Returns:
    The operations to apply, in order; from none to `num_ops`.
  """
  num_ops, policy = config.num_ops, POLICIES[config.policy]
  names = tuple(policy.operations)
  choices = rng.random((num_ops, 4)).tolist()
  noise = rng.standard_normal(num_ops).tolist()
  draws = []
  for (which, applies, sign, cubic), deviation in zip(
    choices, noise, strict=True
  ):
    if applies >= config.probability:
      continue
    magnitude = config.magnitude + config.magnitude_std * deviation
    resample = policy.resample or interpolation
    if resample == 'random':
      resample = 'bicubic' if cubic < 0.5 else 'bilinear'
    draws.append(
      Draw(
        operation=names[int(which * len(names))],
        magnitude=min(max(magnitude, 0.0), policy.max_magnitude),
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
  policy: str,
) -> np.ndarray:
  """Applies one operation; the same arguments always give the same pixels.

  Args:
    image: uint8 `[H, W, 3]`.
    draw: the operation.
    increasing: whether the effect of posterize, solarize, color, contrast,
      brightness and sharpness grows with the magnitude (timm's `inc1`; in
      torchvision's policy it always does).
    fill: colour of the pixels that come from outside the image.
    policy: of `POLICIES`.

  Returns:
    uint8 `[H, W, 3]`.
  """
  function, strength, moves_pixels = POLICIES[policy].operations[draw.operation]
  arguments = []
  if strength:
    arguments.append(strength(draw, increasing))
  if moves_pixels:
    arguments += [draw.resample, fill]
  return function(image, *arguments)
