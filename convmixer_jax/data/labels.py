"""Several labels an image: checks, multi-hot arrays, and how often each is."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from convmixer_jax import limits
from convmixer_jax.data.examples import InMemorySource, Source
from convmixer_jax.errors import UserError

_MAX_COUNTED = 2**13  # images, of a set whose labels are not in memory


def multi_hot(labels: Sequence[int], num_classes: int) -> np.ndarray:
  """Returns int32 `[num_classes]`, 1 for each label; there may be none."""
  array = np.zeros(num_classes, np.int32)
  array[np.asarray(labels, np.int64)] = 1
  return array


def indices(
  label: Sequence[int] | np.ndarray,
  num_classes: int,
  is_multi_hot: bool,
  where: Callable[[], str],
) -> list[int]:
  """Returns the labels of an image in ascending order, checked.

  Args:
    label: the labels; or, if multi-hot, 0 or 1 for each class.
    num_classes: K.
    is_multi_hot: whether it is.
    where: names the image, for errors.

  Raises:
    UserError: a label is out of range or given twice; or a value of a multi-hot
      label is neither 0 nor 1.
  """
  values = np.ravel(np.asarray(label))
  if is_multi_hot:
    if len(values) != num_classes or not np.isin(values, (0, 1)).all():
      raise UserError(
        f'the label of image {where()} is {_shorten(values)}, not 0 or 1 for '
        f'each of {num_classes} classes; fix it, or leave the image out'
      )
    return np.flatnonzero(values).tolist()
  found = sorted(values.tolist())
  if found and not (0 <= found[0] and found[-1] < num_classes):
    raise out_of_range(_shorten(values), num_classes, where())
  for first, second in zip(found, found[1:], strict=False):
    if first == second:
      raise UserError(
        f'the labels of image {where()} have {first} twice; give each label '
        'once, or leave the image out'
      )
  return found


def out_of_range(label: object, num_classes: int, where: str) -> UserError:
  """Returns the error for a label that is not one of the classes."""
  return UserError(
    f'the label of image {where} is {label}, not from 0 to {num_classes - 1}; '
    'fix it, leave the image out, or choose another split'
  )


def _shorten(values):
  return np.array2string(values, threshold=12, separator=', ')


@dataclasses.dataclass(frozen=True)
class Counts:
  """How many images have each class.

  Attributes:
    images: `[K]`, of those that were looked at.
    without: how many have no class.
    num_seen: how many were looked at.
    is_complete: whether these are all of the source.
  """

  images: np.ndarray
  without: int
  num_seen: int
  is_complete: bool


def count(source: Source) -> Counts:
  """Counts the labels of a multi-label source; of a large one, of a sample.

  Raises:
    UserError: see `indices`.
  """
  is_complete = (
    isinstance(source, InMemorySource) or len(source) <= _MAX_COUNTED
  )
  size = len(source) if is_complete else _MAX_COUNTED
  images, without = np.zeros(source.num_classes, np.int64), 0
  for index in np.linspace(0, len(source) - 1, size).astype(int):
    if isinstance(source, InMemorySource):
      label = np.flatnonzero(source[index]['label'])
    else:
      label = source.stored_example(int(index))[1]
    images[np.asarray(label, np.int64)] += 1
    without += not len(label)
  return Counts(images, without, size, is_complete)


def require_memory(source: Source) -> None:
  """Checks that the outputs for all images of a split fit into memory.

  Average precision needs them at once: 4 bytes for each class of each image,
  and another for its label.

  Raises:
    UserError: they would take more than a quarter of the memory.
  """
  num_bytes = 5 * len(source) * source.num_classes
  allowed = limits.memory_bytes() // 4
  if num_bytes > allowed:
    raise UserError(
      f'mean average precision of {len(source):,} images and '
      f'{source.num_classes:,} classes takes {num_bytes / 2**30:.1f} GiB, more '
      f'than a quarter of the memory ({allowed / 2**30:.1f} GiB); evaluate on '
      f"a slice, such as '{source.origin.split}[:10%]'"
    )


def notes(train: Source, evaluated: Source) -> list[str]:
  """Returns lines on images without classes, and on classes without images.

  Args:
    train: the training split, with several labels an image.
    evaluated: the split to evaluate on.

  Raises:
    UserError: no image has a class, so there is nothing to learn or to score.
  """
  lines = []
  for source in (train, evaluated):
    counts = count(source)
    split = source.origin.split
    if counts.is_complete and not counts.images.any():
      raise UserError(
        f'none of the {len(source):,} images of {split!r} has a class; choose '
        'another split, or check the labels'
      )
    of = '' if counts.is_complete else f', of {counts.num_seen:,} looked at'
    if counts.without:
      lines.append(
        f'Note: {counts.without:,} images of {split!r}{of} have no class'
      )
    absent = np.flatnonzero(counts.images == 0)
    if len(absent):
      named = ', '.join(source.class_names[k] for k in absent[:5])
      named += ', ...' if len(absent) > 5 else ''
      effect = (
        'they cannot be learned'
        if source is train
        else 'mean average precision leaves them out'
      )
      lines.append(
        f'Note: {len(absent)} of {source.num_classes} classes have no image in '
        f'{split!r}{of} ({named}): {effect}'
      )
  return lines
