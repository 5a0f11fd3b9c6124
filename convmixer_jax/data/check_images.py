"""Checks that the images of a source are those that a config describes."""

from typing import Any

import ml_collections
import numpy as np

from convmixer_jax.config import num_channels
from convmixer_jax.data.array_files import DTYPES
from convmixer_jax.data.examples import Source
from convmixer_jax.data.pixels import describe_channels
from convmixer_jax.errors import UserError
from convmixer_jax.notes import note

_FAR = 10  # standard deviations between a typical pixel and the mean


def check_images(source: Source, config: ml_collections.ConfigDict) -> None:
  """Checks the first image against the config.

  Args:
    source: of images.
    config: the whole config.

  Raises:
    UserError: its axes, channels or dtype are not such, or RandAugment is not
      for them.
  """
  image = source[0]['image']
  check_image(image, 'the first image of the data set', config.dataset)
  _note_other_scale(image, config.dataset)
  ops = config.augment.rand_augment.num_ops
  if ops and image.dtype != np.uint8:
    raise UserError(
      f'config.augment.rand_augment.num_ops = {ops} is for images of uint8, '
      f'and the data set has {image.dtype}: its operations on colours are for '
      'values from 0 to 255; give --config.augment.rand_augment.num_ops=0'
    )


def _note_other_scale(image, dataset):
  """Says if mean and std are on another scale than the pixels."""
  is_whole = np.issubdtype(image.dtype, np.integer)
  pixels = image / np.iinfo(image.dtype).max if is_whole else image
  distance = np.abs(np.median(pixels, axis=(0, 1)) - np.array(dataset.mean))
  is_far = (distance > _FAR * np.array(dataset.std)).all()
  if is_far or (is_whole and max(dataset.mean) > 1):
    scaled = ', as numbers from 0 to 1,' if is_whole else ''
    note(
      f'the first image has pixels{scaled} from {pixels.min():.3g} to '
      f'{pixels.max():.3g}, and config.dataset.mean = {tuple(dataset.mean)}, '
      f'std = {tuple(dataset.std)} seem to be on another scale; convmixer '
      'statistics computes them'
    )


def check_image(
  image: Any, name: str, dataset: ml_collections.ConfigDict
) -> None:
  """Checks one image.

  Args:
    image: of an example.
    name: of it, for errors.
    dataset: `config.dataset`.

  Raises:
    UserError: its axes, channels or dtype are not such, or it is not finite.
  """
  shape: tuple[int, ...] = getattr(image, 'shape', ())
  dtype = getattr(image, 'dtype', None)
  if len(shape) != 3 or str(dtype) not in DTYPES:
    raise UserError(
      f'{name} is {dtype or type(image).__name__} of shape {tuple(shape)}; '
      'give arrays [height, width, channels] of '
      f'{", ".join(DTYPES)}'
    )
  channels = num_channels(dataset)
  if shape[-1] != channels:
    raise UserError(f'{name} {describe_channels(shape, channels)}')
  if dtype == np.float32 and not np.isfinite(image).all():
    raise UserError(
      f'{name} has values that are not finite; leave it out, or replace them'
    )
