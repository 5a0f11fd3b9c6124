"""Mean and standard deviation per channel of the images of a source."""

import dataclasses
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_collections
import numpy as np
import tqdm

from convmixer_jax import limits
from convmixer_jax.config import num_channels
from convmixer_jax.data.decode import count_channels
from convmixer_jax.data.examples import Source
from convmixer_jax.data.pixels import describe_channels
from convmixer_jax.data.record_images import count_feature_channels
from convmixer_jax.data.sources import (
  FOLDER,
  HUGGING_FACE,
  open_source,
  prepared_builder,
)
from convmixer_jax.errors import UserError

_SAMPLE = 64  # files whose headers say how many channels there are
_SCALES = {'uint8': 255, 'uint16': 65535, 'float32': 1}


@dataclasses.dataclass(frozen=True)
class Statistics:
  """Statistics of N images of C channels.

  Attributes:
    mean: `[C]`, over all pixels of all images, in the units of
      `config.dataset.mean`: uint8 / 255, uint16 / 65,535, float32 as it is.
    std: `[C]`, of the same.
    low: `[C]`, the smallest value.
    high: `[C]`, the largest value.
    dtype: of the images.
    sizes: number of images by (height, width).
  """

  mean: np.ndarray
  std: np.ndarray
  low: np.ndarray
  high: np.ndarray
  dtype: str
  sizes: Counter


def compute_statistics(source: Source) -> Statistics:
  """Reads every image once, in its own size; shows a bar on a terminal.

  Sums of whole numbers are exact. Those of floats are of float64, relative to
  the mean of the first image, so that a mean far from 0 costs no digits.

  Args:
    source: of images `[H, W, C]`, each of any size.

  Raises:
    UserError: an image cannot be read, or has other channels than the first.
  """
  first = source[0]['image']
  channels, dtype = first.shape[-1], first.dtype
  is_float = dtype == np.float32
  offset = np.zeros(channels)
  if is_float:
    offset = first.mean(axis=(0, 1), dtype=np.float64)

  def summarize(index):
    image = source[index]['image']
    if image.shape[-1] != channels or image.dtype != dtype:
      raise UserError(
        f'image {index} is {image.dtype} and '
        f'{describe_channels(image.shape, channels)}'
      )
    values = image.reshape(-1, channels)
    low, high = values.min(axis=0), values.max(axis=0)
    if is_float:
      values = values.astype(np.float64) - offset
      squares = np.square(values).sum(axis=0)
      sums = values.sum(axis=0)
    else:
      values = values.astype(np.uint64)
      squares = [int(x) for x in (values * values).sum(axis=0)]
      sums = [int(x) for x in values.sum(axis=0)]
    return image.shape[:2], len(values), sums, squares, low, high

  count = 0
  sizes: Counter[tuple[int, ...]] = Counter()
  total = [0.0 if is_float else 0] * channels
  total_squares = list(total)
  lows: Any = []
  highs: Any = []
  with ThreadPoolExecutor(limits.num_cores()) as pool:
    summaries = tqdm.tqdm(
      pool.map(summarize, range(len(source))),
      'Reading',
      len(source),
      leave=False,
      disable=None,
      unit=' images',
    )
    for size, pixels, sums, squares, low, high in summaries:
      sizes[size] += 1
      count += pixels
      total = [a + b for a, b in zip(total, sums, strict=True)]
      total_squares = [
        a + b for a, b in zip(total_squares, squares, strict=True)
      ]
      lows = low if len(lows) == 0 else np.minimum(lows, low)
      highs = high if len(highs) == 0 else np.maximum(highs, high)
  scale = _SCALES[dtype.name]
  variances = [  # of whole numbers, the difference is exact
    (count * squares - s * s) / count**2
    for s, squares in zip(total, total_squares, strict=True)
  ]
  means = np.array([s / count for s in total]) + offset
  return Statistics(
    mean=means / scale,
    std=np.sqrt(np.maximum(variances, 0)) / scale,
    low=np.asarray(lows) / scale,
    high=np.asarray(highs) / scale,
    dtype=dtype.name,
    sizes=sizes,
  )


def find_channels(dataset: ml_collections.ConfigDict, split: str) -> int:
  """Returns the channels that images have as they are stored, without alpha.

  Args:
    dataset: `config.dataset`; its `mean` decides where the data does not.
    split: of it. Of files, some evenly spaced ones are looked at.
  """
  if dataset.name == FOLDER:
    source = open_source(dataset, split)
    some = np.unique(np.linspace(0, len(source) - 1, _SAMPLE).astype(int))
    return max(
      count_channels(source.stored_example(int(index))[0]) for index in some
    )
  if dataset.name == 'digits' or dataset.name.startswith(HUGGING_FACE):
    return num_channels(dataset)
  builder = prepared_builder(dataset.name, dataset.data_dir)
  return count_feature_channels(builder.info.features, dataset.image_feature)
