"""A source of images in a data set of the Hugging Face Hub."""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convmixer_jax.data import slices
from convmixer_jax.data.encoded_images import EncodedImages
from convmixer_jax.data.examples import Origin
from convmixer_jax.data.hugging_face.columns import check_columns, read_labels
from convmixer_jax.data.hugging_face.loading import load_splits, short_name
from convmixer_jax.data.split_names import held_out_split, resolve
from convmixer_jax.errors import UserError, one_line


class HuggingFaceSource(EncodedImages):
  """A split of a Hugging Face set, whose images are read from Arrow files.

  Its images are decoded as those of all sources, not by the package.

  Raises:
    UserError: on construction, see `load_splits`, `check_columns` and
      `resolve`; on reading, if an image is missing or damaged.
  """

  _is_multi_label = False

  def __init__(
    self,
    name: str,
    split: str,
    cache_dir: str = '',
    *,
    image: str = 'image',
    label: str = 'label',
    exif_rotate: bool = True,
    channels: int = 3,
  ):
    """Opens the split.

    Args:
      name: 'hf:OWNER/NAME', see `loading`.
      split: one of its splits, or a slice of them; see `slices`.
      cache_dir: where to keep downloads; '' for the usual place.
      image: column of the images.
      label: column of the labels.
      exif_rotate: whether to turn images upright as their EXIF data says.
      channels: of the images.
    """
    super().__init__(exif_rotate=exif_rotate, channels=channels)
    self._name, self._split, self._image = name, split, image
    found = load_splits(name, cache_dir)
    check_columns(
      name,
      next(iter(found.values())).features,
      image,
      label,
      is_multi_label=self._is_multi_label,
    )
    parts = resolve(name, list(found), split)
    wanted = list(dict.fromkeys(part.split for part in parts))
    self.class_names, labels = self._read_labels(name, found, wanted, label)
    self.num_classes = len(self.class_names)
    self._tables = {key: _without_decoding(found[key], image) for key in wanted}
    ranges: list[tuple[str, int, int]] = []
    self._chosen: list[tuple[str, np.ndarray]] = []
    self._labels: list[Sequence[Any]] = []
    for part in parts:
      of_split = labels[part.split]
      groups, names = self._group(of_split)
      chosen, of_part = slices.take(part, groups, names, lambda k: b'%d' % k)
      chosen.sort()
      self._chosen.append((part.split, chosen))
      self._labels.append([of_split[k] for k in chosen])
      ranges += of_part
    self._ends = list(itertools.accumulate(len(x) for _, x in self._chosen))
    if not self._ends[-1]:
      raise UserError(f'{name} has no images in split {split!r}')
    version = next(iter(found.values())).info.version
    self.origin = Origin(
      short_name(name), '', str(version or ''), split, tuple(ranges)
    )

  def __len__(self) -> int:
    return self._ends[-1]

  def stored_example(self, index: int) -> tuple[bytes, Any]:
    """Returns the bytes of an image file, and its label."""
    number, position = self._find(index)
    split, chosen = self._chosen[number]
    try:
      record = self._tables[split][int(chosen[position])][self._image]
      data = _content(record)
    except Exception as error:  # of Arrow, or of the file that is named
      raise UserError(
        f'{self.where(index)} cannot be read ({one_line(error)}); load the '
        'data set again'
      ) from error
    return data, self.label(index)

  def label(self, index: int) -> Any:
    """Returns the label of an image."""
    number, position = self._find(index)
    return self._labels[number][position]

  def where(self, index: int) -> str:
    """Returns which image it is, for an error."""
    number, position = self._find(index)
    split, chosen = self._chosen[number]
    return f'{chosen[position]} of {self._name} {split}'

  def _read_labels(self, name, splits, wanted, column):
    """Returns the names of the classes, and the labels of some splits."""
    names, labels = read_labels(name, splits, wanted, column)
    return names, {split: array.tolist() for split, array in labels.items()}

  def _group(self, labels):
    """Returns the images of each class, and its name: what slices cut."""
    labels = np.asarray(labels, np.int64)
    ends = np.cumsum(np.bincount(labels, minlength=self.num_classes))
    by_class = np.argsort(labels, kind='stable')
    return np.split(by_class, ends[:-1]), self.class_names

  def _find(self, index):
    """Returns the part that an image is of, and its index there."""
    if not 0 <= index < len(self):
      raise IndexError(f'image {index} of {len(self)}')
    number = bisect.bisect_right(self._ends, index)
    return number, index - (self._ends[number - 1] if number else 0)


def default_split(name: str, cache_dir: str) -> str:
  """Returns the split to evaluate: the held-out one, or all images.

  Raises:
    UserError: see `load_splits`.
  """
  return held_out_split(load_splits(name, cache_dir)) or 'all'


def _without_decoding(table, image):
  """Returns the column of images alone, as bytes or paths."""
  import datasets

  table = table.select_columns(image).with_format(None)
  return table.cast_column(image, datasets.Image(decode=False))


def _content(record: Mapping[str, Any] | None) -> bytes:
  if record is None:
    raise ValueError('there is no image')
  if record['bytes'] is not None:
    return record['bytes']
  with open(record['path'], 'rb') as file:
    return file.read()
