"""Which image each row of each training batch is, and its random numbers.

They are those of `pipeline.train_batches`, without the images.
"""

from collections.abc import Callable

import grain
import ml_collections
import numpy as np
from grain.experimental import index_shuffle

from convmixer_jax.data import pipeline
from convmixer_jax.data.augment.draws import Stream
from convmixer_jax.data.repeated import RepeatedImages, steps_per_epoch
from convmixer_jax.errors import UserError

_PROBES = 8  # rows of which the shuffle is compared with Grain's


class TrainRows:
  """The rows of all batches, counted from the start of training.

  Attributes:
    stream: the random generators of the rows.
  """

  def __init__(self, num_images: int, config: ml_collections.ConfigDict):
    """Finds the order of the images, and the generators.

    Args:
      num_images: of the training split.
      config: the complete config.

    Raises:
      UserError: Grain's order or generators differ from those known here, or
        there are fewer images than a batch takes.
    """
    self._num_images = num_images
    self._number = _find_numbers(num_images, config)
    # As Grain derives it: from the seed, and from how far away that was given.
    seeds = np.random.SeedSequence((config.seed, 1)).generate_state(1)
    self._seed = int(seeds[0])
    dataset = pipeline.train_rows(range(num_images), config)
    stream = _find_stream(dataset)
    epoch = steps_per_epoch(num_images, config) * config.batch_size
    probes = range(epoch - _PROBES // 2, epoch + _PROBES // 2)
    if stream is None or [dataset[row] for row in probes] != [
      *self.images(probes)
    ]:
      raise UserError(
        'config.input.on_device = True needs the random numbers of Grain '
        f'0.2.18, and those of Grain {grain.__version__} differ; set it to '
        'False, or install that version'
      )
    self.stream = stream

  def images(self, rows: range) -> np.ndarray:
    """Returns the numbers of the images of rows, int32."""
    last, found = self._num_images - 1, []
    # A thousand take a millisecond; Grain takes 20 times as long.
    for row in rows:
      epoch, number = divmod(self._number(row), last + 1)
      seed = (self._seed + epoch) % 2**32
      found.append(index_shuffle(number, last, seed, 4))
    return np.array(found, np.int32)


def _find_numbers(
  num_images: int, config: ml_collections.ConfigDict
) -> Callable[[int], int]:
  """Returns a function from rows to numbers among the shuffled images."""
  if config.repeated_augmentation > 1:
    images = grain.MapDataset.range(num_images)
    return RepeatedImages(images, config).shuffled_number
  epoch_size = steps_per_epoch(num_images, config) * config.batch_size

  def number(row):
    epoch, position = divmod(row, epoch_size)
    return epoch * num_images + position

  return number


def _find_stream(dataset: grain.MapDataset) -> Stream | None:
  """Returns the generators that Grain gives to a transform of the rows.

  None if they are none of NumPy's Philox, or start elsewhere.
  """
  states = dataset.random_map(lambda _, rng: rng.bit_generator.state)
  first, other = states[0], states[7]
  if first['bit_generator'] != 'Philox' or first['buffer_pos'] != 4:
    return None
  key = first['state']['key']
  start, of_other = (
    [int(n) for n in state['state']['counter']] for state in (first, other)
  )
  seed = start[2]
  if (start, of_other) != ([0, 0, seed, 0], [0, 0, seed, 7]):
    return None
  if not np.array_equal(key, other['state']['key']):
    return None
  return Stream(np.asarray(key, np.uint64), seed)
