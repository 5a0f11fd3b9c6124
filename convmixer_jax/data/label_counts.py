"""Checks splits with several labels an image: which classes have images."""

import dataclasses

import numpy as np

from convmixer_jax import limits
from convmixer_jax.data.examples import (
  InMemorySource,
  Source,
  iterate_stored,
)
from convmixer_jax.errors import UserError

_MAX_COUNTED = 2**13  # images, of a set that is not in memory


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
    UserError: see `labels.indices`.
  """
  is_complete = (
    isinstance(source, InMemorySource) or len(source) <= _MAX_COUNTED
  )
  size = len(source) if is_complete else _MAX_COUNTED
  images, without = np.zeros(source.num_classes, np.int64), 0
  indices = np.linspace(0, len(source) - 1, size).astype(int).tolist()
  for label in _labels(source, indices):
    images[np.asarray(label, np.int64)] += 1
    without += not len(label)
  return Counts(images, without, size, is_complete)


def _labels(source, indices):
  """Yields the labels of images, which are read only if they must be."""
  if isinstance(source, InMemorySource):
    yield from (np.flatnonzero(source[i]['label']) for i in indices)
  elif hasattr(source, 'label'):
    yield from map(source.label, indices)
  else:
    yield from (label for *_, label in iterate_stored(source, indices))


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
