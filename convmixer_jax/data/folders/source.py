"""A source of images in class folders: splits, slices, labels, decoding."""

import bisect
import itertools
import os

import numpy as np

from convmixer_jax.data import image_files
from convmixer_jax.data.examples import Origin
from convmixer_jax.data.folders import splits
from convmixer_jax.data.folders.cached_listing import open_listing
from convmixer_jax.data.folders.file_source import NAME, FileSource
from convmixer_jax.data.folders.layout import (
  Layout,
  find_layout,
  join_names,
)
from convmixer_jax.data.folders.listing import Listing
from convmixer_jax.data.split_names import resolve
from convmixer_jax.errors import UserError
from convmixer_jax.notes import note


class FolderSource(FileSource):
  """Images in class folders, read and decoded when they are asked for.

  Raises:
    UserError: on construction, if the directory, the split or a class has no
      images; on reading, if a file cannot be read or decoded, or has one pixel
      only.
  """

  def __init__(
    self,
    data_dir: str,
    split: str,
    *,
    exif_rotate: bool = True,
    channels: int = 3,
  ):
    """Lists the images.

    Args:
      data_dir: directory with the folders; see `layout`.
      split: one of its splits, or a slice of them; see `slices`.
      exif_rotate: whether to turn images upright as their EXIF data says.
      channels: of the images. Their dtype is that of the first one.
    """
    layout = find_layout(data_dir)
    super().__init__(exif_rotate=exif_rotate, channels=channels)
    self.class_names = layout.class_names
    self.num_classes = len(self.class_names)
    listings: dict[str, Listing] = {}
    parts, ranges = [], []
    for part in resolve(data_dir, list(layout.splits), split):
      if part.split not in listings:
        listings[part.split] = _list(layout, part.split)
      images, found = splits.choose(layout, part, listings[part.split])
      parts.append(images)
      ranges += found
    self._parts = [images for images in parts if len(images.chosen)]
    self._ends = list(itertools.accumulate(len(p.chosen) for p in self._parts))
    if not self._parts:
      raise UserError(f'{data_dir} has no images in split {split!r}')
    self.origin = Origin(NAME, '', '', split, tuple(ranges), self.count_bytes())
    _report(layout, split, listings, self._count_labels())

  def __len__(self) -> int:
    return self._ends[-1]

  def path(self, index: int) -> bytes:
    """Returns the path of an image."""
    images, index = self._find(index)
    return images.listing.path(index)

  def label(self, index: int) -> int:
    """Returns the label of an image."""
    images, index = self._find(index)
    return int(images.labels[images.listing.class_of(index)])

  def _find(self, index):
    """Returns the images that one is among, and its index in their listing."""
    if not 0 <= index < len(self):
      raise IndexError(f'image {index} of {len(self)}')
    number = bisect.bisect_right(self._ends, index)
    images = self._parts[number]
    first = self._ends[number] - len(images.chosen)
    return images, int(images.chosen[index - first])

  def _count_labels(self):
    """Returns int64 `[num_classes]`, the number of images of each class."""
    counts = np.zeros(self.num_classes, np.int64)
    for listing, chosen, labels in self._parts:
      folders = np.searchsorted(listing.ends, chosen, side='right')
      np.add.at(counts, labels[folders], 1)
    return counts


def _list(layout: Layout, split: str) -> Listing:
  """Returns the images of a split, of which each class has some."""
  folders = layout.class_folders[split]
  names = sorted(folders)
  listing = open_listing(
    layout.splits[split], [folders[name] for name in names]
  )
  empty = [
    repr(name)
    for name, count in zip(names, listing.counts, strict=True)
    if not count
  ]
  if empty:
    root = image_files.display_name(os.fsdecode(layout.splits[split]))
    others = image_files.describe(listing.passed_over)
    kind = 'class folders' if len(empty) > 1 else 'class folder'
    raise UserError(
      f'{root} has no images in the {kind} {join_names(empty)}'
      f'{f" (passed over: {others})" if others else ""}; add images in a '
      'format that Pillow reads, or remove the folder'
    )
  return listing


def _report(layout, split, listings, counts):
  """Prints what was passed over, and which classes the split lacks."""
  directory = layout.directory
  if layout.passed_over:
    note(
      f'{directory} has splits; the folders beside them are not read: '
      f'{join_names(layout.passed_over)}'
    )
  for name, listing in listings.items():
    if listing.passed_over:
      note(
        f'passed over in {name} of {directory}: '
        f'{image_files.describe(listing.passed_over)}'
      )
  missing = [
    repr(name)
    for name, count in zip(layout.class_names, counts, strict=True)
    if not count
  ]
  if missing:
    note(
      f'{split} of {directory} has no images of {len(missing)} of the '
      f'{len(counts)} classes: {join_names(missing)}'
    )
