"""Finds the images of a split, or of a slice, of a directory of class folders.

A directory that has `train` alone, or one level of folders, has no held-out
images of its own. There `train` without a slice is 90 % of each class, and
`validation` and `test` are the others; `all` is everything, and slices of
`train` cut all images. Where there is only one of `validation` and `test`, it
stands for both.
"""

from typing import NamedTuple

import numpy as np

from convmixer_jax.data.folders import slices
from convmixer_jax.data.folders.layout import (
  SPLIT_NAMES,
  Layout,
  find_layout,
)
from convmixer_jax.data.folders.listing import Listing
from convmixer_jax.errors import UserError
from convmixer_jax.notes import note

_HELD_OUT = '90%'  # where a directory has no held-out split of its own


class Images(NamedTuple):
  """Images of one split.

  Attributes:
    listing: all images of the split.
    chosen: int64 `[N]`, which of them.
    labels: int64, the label of each class folder.
  """

  listing: Listing
  chosen: np.ndarray
  labels: np.ndarray


def default_split(data_dir: str) -> str:
  """Returns the split to evaluate: the held-out one, or all images.

  Raises:
    UserError: the directory cannot be opened; see `find_layout`.
  """
  splits = find_layout(data_dir).splits
  held_out = [name for name in ('validation', 'test') if name in splits]
  return (held_out or ['all'])[0]


def resolve(layout: Layout, text: str) -> list[slices.Part]:
  """Returns the terms of a split, each with the name of one that exists.

  Args:
    layout: of the directory.
    text: the split, as it was given.

  Raises:
    UserError: there is no such split, or it is not in TFDS's syntax.
  """
  parts = []
  for part in slices.parse(text):
    is_all = part.split.lower() == 'all'
    if is_all and (not part.is_sliced or len(layout.splits) == 1):
      parts += [
        part._replace(split=name, is_sliced=True) for name in layout.splits
      ]
    else:
      parts.append(_resolve_part(layout, part))
  return parts


def _resolve_part(layout, part):
  """Returns a term of a split with the name of a split that exists."""
  wanted = SPLIT_NAMES.get(part.split.lower())
  other = {'test': 'validation', 'validation': 'test'}.get(wanted)
  directory = layout.directory
  if list(layout.splits) == ['train'] and not part.is_sliced and wanted:
    note(
      f'{directory} has no folders for splits: train is 90 % of the images of '
      'each class (train[:90%]), validation the others (train[90%:])',
      f'splits of {directory}',
    )
    if wanted == 'train':
      return slices.Part('train', stop=_HELD_OUT, is_sliced=True)
    return slices.Part('train', start=_HELD_OUT, is_sliced=True)
  if wanted in layout.splits:
    return part._replace(split=wanted)
  if other in layout.splits:
    note(f'{directory} has no split {wanted}; it is evaluated on {other}')
    return part._replace(split=other)
  known = ', '.join(layout.splits)
  raise UserError(
    f'{directory} has no split {part.split!r}; it has {known}, and slices of '
    "them such as 'train[:90%]'"
  )


def choose(
  layout: Layout, part: slices.Part, listing: Listing
) -> tuple[Images, list[tuple[str, int, int]]]:
  """Returns the images of a slice, and what `Origin.ranges` has of them.

  Args:
    layout: of the directory.
    part: from `resolve`.
    listing: of its split.

  Raises:
    UserError: the slice is out of range.
  """
  names = sorted(layout.class_folders[part.split])
  starts, stops = slices.bounds(part, listing.counts)
  chosen = []
  for number, (name, first, count, start, stop) in enumerate(
    zip(
      names,
      listing.ends - listing.counts,
      listing.counts,
      starts,
      stops,
      strict=True,
    )
  ):
    members = np.arange(first, listing.ends[number])
    if stop - start < count:
      order = slices.hash_order(name, map(listing.name, members))
      members = first + np.sort(order[start:stop])
    chosen.append(members)
  label_of = {name: label for label, name in enumerate(layout.class_names)}
  images = Images(
    listing,
    np.concatenate([np.zeros(0, np.int64), *chosen]),
    np.array([label_of[name] for name in names], np.int64),
  )
  ranges = [
    (f'{part.split}/{name}', int(start), int(stop - start))
    for name, start, stop in zip(names, starts, stops, strict=True)
    if stop > start
  ]
  return images, ranges
