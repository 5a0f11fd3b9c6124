"""Which images a slice such as `train[:90%]` takes: of each class its share.

Within a class, images are in a fixed order that looks random: by the SHA-256
of class and file name. It depends neither on the file system nor on the
language of the computer, nor on where the directory is.

Percentages cut each class by itself, at the nearest image; a class of two or
more has at least one image on each side of a cut. Numbers of images cut all
classes together, in an order that interleaves them, so that each class has its
share but for one image.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from convmixer_jax.errors import UserError

_NUMBER = r'-?\d+(?:\.\d+)?%|-?\d+'
_EXAMPLES = "such as 'train[:90%]' or 'train[100:200]'"


class Part(NamedTuple):
  """One of the terms of 'train[:90%]+validation'.

  Attributes:
    split: its name, as it was given.
    start: '10%', '100' or '' for the first image.
    stop: as `start`; '' for the end.
    is_sliced: whether there were brackets.
  """

  split: str
  start: str = ''
  stop: str = ''
  is_sliced: bool = False


def parse(text: str) -> list[Part]:
  """Returns the terms of a split.

  Raises:
    UserError: it is not in TFDS's syntax.
  """
  parts = []
  for term in text.split('+'):
    match = re.fullmatch(
      rf'\s*([^][+\s]+)\s*(\[\s*({_NUMBER})?\s*:\s*({_NUMBER})?\s*\])?\s*', term
    )
    if not match:
      raise UserError(f'{text!r} is not a split or a slice, {_EXAMPLES}')
    name, brackets, start, stop = match.groups()
    part = Part(name, start or '', stop or '', brackets is not None)
    if start and stop and start.endswith('%') != stop.endswith('%'):
      raise UserError(
        f'{text!r} has a percentage and a number of images; give two of one '
        f'kind, {_EXAMPLES}'
      )
    parts.append(part)
  return parts


def bounds(part: Part, counts: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """Returns where a slice begins and ends in the order of each class.

  Args:
    part: the term of a split.
    counts: `[C]`, images of each class.

  Returns:
    Two int arrays `[C]`.

  Raises:
    UserError: the slice is out of range.
  """
  totals = np.asarray(counts, np.int64)
  start = _cut(part, part.start, totals) if part.start else 0 * totals
  stop = _cut(part, part.stop, totals) if part.stop else totals
  return start, np.maximum(start, stop)


def take(
  part: Part,
  groups: Sequence[np.ndarray],
  names: Sequence[str],
  file_name: Callable[[int], bytes],
) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
  """Returns the images of a slice, and what `Origin.ranges` has of them.

  Args:
    part: the term of a split.
    groups: int64, the images that are cut together, such as those of a class.
    names: of the groups; '' for one of all images.
    file_name: of an image, by which it is put in order.

  Returns:
    int64 `[N]`, those of each group together and in order.

  Raises:
    UserError: the slice is out of range.
  """
  chosen, ranges = [np.zeros(0, np.int64)], []
  starts, stops = bounds(part, [len(group) for group in groups])
  for group, name, start, stop in zip(
    groups, names, starts.tolist(), stops.tolist(), strict=True
  ):
    if stop - start < len(group):
      order = hash_order(name, map(file_name, group))
      group = group[np.sort(order[start:stop])]
    chosen.append(group)
    if len(group):
      place = f'{part.split}/{name}' if name else part.split
      ranges.append((place, start, stop - start))
  return np.concatenate(chosen), ranges


def hash_order(class_name: str, names: Iterable[bytes]) -> np.ndarray:
  """Returns the order in which slices take the images of a class.

  Args:
    class_name: the name of the class.
    names: paths of the images, relative to the folder of the class.

  Returns:
    int `[N]`, a permutation.
  """
  prefix = hashlib.sha256(class_name.encode() + b'/')
  keys = []
  for index, name in enumerate(names):
    state = prefix.copy()
    state.update(name)
    keys.append((state.digest()[:8], name, index))
  return np.array([index for *_, index in sorted(keys)], np.int64)


def _cut(part: Part, text: str, counts: np.ndarray) -> np.ndarray:
  """Returns how many images of each class are before a cut."""
  total = int(counts.sum())
  limit = 100 if text.endswith('%') else total
  value = Fraction(text.removesuffix('%'))
  value += limit * (value < 0)
  if not 0 <= value <= limit:
    has = '' if text.endswith('%') else f', which has {total:,} images'
    raise UserError(
      f"'{part.split}[{part.start}:{part.stop}]' is out of range: {text} of "
      f'{part.split!r}{has}; give a slice {_EXAMPLES}'
    )
  if text.endswith('%'):
    return np.array([_cut_class(int(n), value) for n in counts], np.int64)
  return _interleaved(counts, int(value))


def _cut_class(count: int, percent: Fraction) -> int:
  if percent in (0, 100):
    return count * (percent == 100)
  nearest = int(count * percent / 100 + Fraction(1, 2))
  return min(max(nearest, 1), count - 1) if count > 1 else nearest


def _interleaved(counts: np.ndarray, number: int) -> np.ndarray:
  """Returns how many of each class are among the first `number` images.

  Image r of the n of a class is at (r + 1/2) / n of the way.
  """
  label = np.repeat(np.arange(len(counts)), counts)
  rank = np.arange(len(label)) - np.repeat(np.cumsum(counts) - counts, counts)
  order = np.argsort((rank + 0.5) / counts[label], kind='stable')
  return np.bincount(label[order[:number]], minlength=len(counts))
