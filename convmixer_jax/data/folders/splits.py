"""Finds the images of a split, or of a slice, of a folder of class folders."""

from typing import NamedTuple

import numpy as np

from convmixer_jax.data import slices
from convmixer_jax.data.folders import label_tables
from convmixer_jax.data.folders.layout import Layout, find_layout
from convmixer_jax.data.folders.listing import Listing
from convmixer_jax.data.split_names import held_out_split


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
  if label_tables.has_tables(data_dir):
    found = label_tables.read_tables(data_dir).layout.splits
  else:
    found = find_layout(data_dir).splits
  return held_out_split(found) or 'all'


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
