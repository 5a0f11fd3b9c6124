"""Repeated augmentation: an image several times in an epoch, as DeiT has it.

Hoffer et al., arXiv 1901.09335, in the form of DeiT's sampler: the shuffled
images, each repeated, are dealt round the processes of the training, one to
each in turn, and an epoch ends when as many were dealt as there are images. So
it has a third of the images, three times each; what repeats an image is in the
same update, but not in the same process. Here, groups of mixup stand for those
processes, however many devices there are.
"""

from typing import Any

import grain
import ml_collections

from convmixer_jax.config import uses_mixup
from convmixer_jax.errors import UserError

_MULTIPLE = 256  # that the images of an epoch are rounded down to


def steps_per_epoch(num_images: int, config: ml_collections.ConfigDict) -> int:
  """Returns the number of full batches in an epoch; the rest is dropped.

  With repeated augmentation it is of `num_images // 256 * 256` images, or of
  `num_images` if there are fewer than 256, as in timm.

  Args:
    num_images: of the training split.
    config: the whole config.

  Raises:
    UserError: there are fewer images than a batch takes, or than the times
      that each is repeated.
  """
  batch_size, steps = config.batch_size, num_images // config.batch_size
  if config.repeated_augmentation > num_images:
    raise UserError(
      f'config.repeated_augmentation = {config.repeated_augmentation} is more '
      f'than the {num_images} training images, so an epoch would be of one of '
      'them; 3 is usual'
    )
  if steps and config.repeated_augmentation > 1:
    ranks = num_ranks(config)
    if num_images >= _MULTIPLE:
      of_rank = num_images // _MULTIPLE * _MULTIPLE // ranks
    else:
      of_rank = -(-num_images // ranks)
    steps = of_rank // (batch_size // ranks)
    if not steps:
      raise UserError(
        f'config.batch_size = {batch_size} is more than an epoch has with '
        f'config.repeated_augmentation: {of_rank * ranks} of the {num_images} '
        'training images; choose a smaller batch'
      )
  if not steps:
    raise UserError(
      f'config.batch_size = {batch_size} is more than the {num_images} '
      'training images; choose a smaller batch'
    )
  return steps


def num_ranks(config: ml_collections.ConfigDict) -> int:
  """Returns how many groups of a batch the images are dealt round."""
  group = config.mixup.group_size if uses_mixup(config) else 0
  return config.batch_size // (group or config.batch_size)


class RepeatedImages(grain.MapDataset):
  """The examples of an epoch, batch after batch; of the next ones after that.

  The rows of a batch are those of the first group, then those of the second,
  and so on.
  """

  def __init__(
    self, shuffled: grain.MapDataset, config: ml_collections.ConfigDict
  ):
    """Reads nothing yet.

    Args:
      shuffled: all examples of an epoch, in another order in each.
      config: the whole config.
    """
    super().__init__(shuffled)
    self._repeats = config.repeated_augmentation
    self._ranks = num_ranks(config)
    self._batch_size = config.batch_size
    self._length = config.batch_size * steps_per_epoch(len(shuffled), config)

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> Any:
    """Returns the example of a row, counted through all batches."""
    if isinstance(index, slice):
      return self.slice(index)
    return self._parent[self.shuffled_number(index)]

  def shuffled_number(self, index: int) -> int:
    """Returns the number of a row's example among the shuffled ones."""
    epoch, row = divmod(index, len(self))
    return epoch * len(self._parent) + self.position(row) // self._repeats

  def position(self, row: int) -> int:
    """Returns the position of a row of an epoch among the repeated images."""
    batch, row = divmod(row, self._batch_size)
    of_rank = self._batch_size // self._ranks
    rank, turn = divmod(row, of_rank)
    return (batch * of_rank + turn) * self._ranks + rank
