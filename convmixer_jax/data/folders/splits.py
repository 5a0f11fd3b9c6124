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
  groups = [
    np.arange(end - count, end)
    for end, count in zip(listing.ends, listing.counts, strict=True)
  ]
  chosen, ranges = slices.take(part, groups, names, listing.name)
  label_of = {name: label for label, name in enumerate(layout.class_names)}
  labels = np.array([label_of[name] for name in names], np.int64)
  return Images(listing, chosen, labels), ranges
