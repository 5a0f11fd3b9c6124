"""Logits and predictions of a trained network, from pixels or files."""

import functools
from typing import TYPE_CHECKING

import numpy as np

from convmixer_jax.config import ImageSize
from convmixer_jax.errors import UserError
from convmixer_jax.pretrained import predictions
from convmixer_jax.pretrained.images import Images, to_list

if TYPE_CHECKING:
  from convmixer_jax.pretrained.trained_model import TrainedModel


class Inference:
  """The part of `TrainedModel` that applies it to images.

  All preprocessing is that of evaluation: resizing, central crop and
  normalisation. The weights are put on the devices at the first call, where
  they stay with this object.
  """

  def logits(
    self: 'TrainedModel',
    images: Images,
    *,
    batch_size: int = 32,
    image_size: ImageSize | None = None,
    exif_rotate: bool = True,
  ) -> np.ndarray:
    """Returns the network's outputs for images.

    Args:
      images: `[N, H, W, C]` of uint8 or of the dtype of training, of any size;
        or a list of arrays `[H, W, C]`, of any sizes, of paths of files and
        folders, or of images of Pillow; or one of these.
      batch_size: images at a time. Compiled once for each number of images up
        to it, rounded up to a power of two.
      image_size: side in pixels that they are resized to; None for that of
        training.
      exif_rotate: whether to turn files and images of Pillow upright by their
        EXIF orientation.

    Returns:
      float32 `[N, K]`.

    Raises:
      UserError: the images are not of this kind, such as an array of floats, or
        a file cannot be read.
    """
    found = to_list(images, self.channels, self.image_dtype)
    rows = np.empty((len(found), self.num_classes), np.float32)
    if not found:
      return rows
    config = self.eval_config(
      choose_batch_size(batch_size, len(found)), image_size
    )
    for row, (_, error, logits) in zip(
      rows,
      predictions.apply_to_images(
        self, predictions.to_logits, found, config, exif_rotate
      ),
      strict=True,
    ):
      if error is not None:
        raise UserError(error)
      row[:] = logits
    return rows

  def predict(
    self: 'TrainedModel',
    images: Images,
    *,
    batch_size: int = 32,
    image_size: ImageSize | None = None,
    exif_rotate: bool = True,
  ) -> list[predictions.Prediction]:
    """Returns the most probable classes of images, with names.

    Args:
      images: see `logits`.
      batch_size: see `logits`.
      image_size: see `logits`.
      exif_rotate: see `logits`.

    Returns:
      A `Prediction` for each image, in order, folders sorted by path. That of a
      file that cannot be read has an `error` instead of classes.

    Raises:
      UserError: the images are not of this kind, a path does not exist, or
        outputs are not finite.
    """
    found = to_list(images, self.channels, self.image_dtype)
    batch_size = choose_batch_size(batch_size, len(found))
    return list(
      predictions.predict_images(
        self, found, batch_size, image_size, exif_rotate
      )
    )

  @functools.cached_property
  def inference(self: 'TrainedModel') -> predictions.Infer:
    """The network with its weights on the devices, a function of pixels.

    It takes images `[B, H, W, C]`, already resized, of uint8 or, of a network
    that was trained on other dtypes, float32; and returns logits `[B, K]`.
    """
    return predictions.load_for_inference(self)


def choose_batch_size(largest: int, images: int) -> int:
  """Returns one of few sizes, so that few programs are compiled."""
  if largest < 1:
    raise UserError(f'batch_size = {largest} is not positive; give 1 or more')
  return min(largest, 1 << max(images - 1, 0).bit_length())
