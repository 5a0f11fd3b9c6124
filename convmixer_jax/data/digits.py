"""The 1,797 digits of scikit-learn; every fifth of each class is for test."""

import numpy as np

from convmixer_jax.data import slices
from convmixer_jax.data.examples import InMemorySource, Origin
from convmixer_jax.errors import UserError

_TEST_EVERY = 5  # of each class, in scikit-learn's order


def load_digits(split: str, channels: int = 3) -> InMemorySource:
  """Returns a split of the digits.

  Args:
    split: 'train' or 'test', or slices of them, such as 'train[:80%]'.
    channels: 1, or 3 for grey images in RGB.

  Raises:
    UserError: there is no such split, or another number of channels.
  """
  from sklearn import datasets

  parts = slices.parse(split)
  for part in parts:
    if part.split not in ('train', 'test'):
      raise UserError(
        f"'digits' has no split {part.split!r}; its splits are train, test, "
        "and slices of them such as 'train[:80%]'"
      )
  if channels not in (1, 3):
    raise UserError(
      f"'digits' has grey images, and config.dataset.mean has {channels} "
      'values; give mean and std of 1 value, or of 3 for RGB'
    )
  digits = datasets.load_digits()
  index_in_class = np.zeros(len(digits.target), int)
  for label in range(10):
    members = digits.target == label
    index_in_class[members] = np.arange(members.sum())
  held_out = index_in_class % _TEST_EVERY == _TEST_EVERY - 1
  chosen, ranges = [], []
  for part in parts:  # in scikit-learn's order, as TFDS cuts the files' order
    of_split = np.flatnonzero(held_out == (part.split == 'test'))
    (start,), (stop,) = slices.bounds(part, [len(of_split)])
    chosen += of_split[start:stop].tolist()
    ranges.append((part.split, int(start), int(stop - start)))
  grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
  return InMemorySource(
    [
      {
        'image': np.repeat(grey[i, ..., None], channels, -1),
        'label': int(label),
      }
      for i, label in zip(chosen, digits.target[chosen], strict=True)
    ],
    class_names=[str(name) for name in digits.target_names],
    origin=Origin('digits', '', '', split, tuple(ranges)),
  )
