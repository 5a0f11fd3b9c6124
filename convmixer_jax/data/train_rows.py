"""Which image each row of each training batch is, and its random numbers.

They are those of `pipeline.train_batches`, without the images.
"""

import grain
import ml_collections
import numpy as np

from convmixer_jax.data import pipeline
from convmixer_jax.data.augment.draws import Stream
from convmixer_jax.errors import UserError


class TrainRows:
  """The rows of all batches, counted from the start of training.

  Attributes:
    stream: the random generators of the rows.
  """

  def __init__(self, num_images: int, config: ml_collections.ConfigDict):
    """Finds the generators.

    Args:
      num_images: of the training split.
      config: the complete config.

    Raises:
      UserError: Grain has other generators, or there are fewer images than a
        batch takes.
    """
    self._dataset = pipeline.train_rows(range(num_images), config)
    self.stream = _find_stream(self._dataset)

  def images(self, rows: range) -> np.ndarray:
    """Returns the numbers of the images of rows, int32."""
    return np.array([self._dataset[row] for row in rows], np.int32)


def _find_stream(dataset: grain.MapDataset) -> Stream:
  """Returns the generators that Grain gives to a transform of the rows."""
  states = dataset.random_map(lambda _, rng: rng.bit_generator.state)
  first, other = states[0], states[7]
  start = [int(n) for n in first['state'].get('counter', ())]
  expected = [*start[:3], 7]
  key = first['state'].get('key')
  if (
    first['bit_generator'] != 'Philox'
    or start[:2] != [0, 0]
    or start[3:] != [0]
    or [int(n) for n in other['state']['counter']] != expected
    or not np.array_equal(key, other['state']['key'])
    or first['buffer_pos'] != 4
  ):
    raise UserError(
      f'config.input.on_device = True needs the random numbers of Grain 0.2, '
      f'and those of Grain {grain.__version__} differ; set it to False'
    )
  return Stream(np.asarray(key, np.uint64), start[2])
