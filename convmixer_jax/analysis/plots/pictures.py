"""Images of any channels and values as pictures to look at."""

import numpy as np


def to_picture(image: np.ndarray) -> np.ndarray:
  """Returns an image as RGB, to be looked at.

  One or two channels are drawn in grey, of the first; of more than three, the
  first three are red, green and blue. Values other than uint8 are scaled so
  that each channel has its own range, without the outermost percent.

  Args:
    image: uint8, uint16 or float32 `[H, W, C]`.

  Returns:
    uint8 `[H, W, 3]`.
  """
  image = image[..., : 3 if image.shape[-1] >= 3 else 1]
  if image.dtype != np.uint8:
    low, high = np.percentile(image, (1, 99), axis=(0, 1))
    scaled = (image - low) / np.where(high > low, high - low, 1)
    image = np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
  return np.broadcast_to(image, (*image.shape[:2], 3))
