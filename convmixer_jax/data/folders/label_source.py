"""A source of images in folders with several labels each, from a table."""

import os

from convmixer_jax.data import slices
from convmixer_jax.data.examples import Origin
from convmixer_jax.data.folders.file_source import NAME, FileSource
from convmixer_jax.data.folders.label_tables import FILE, read_tables
from convmixer_jax.data.split_names import resolve
from convmixer_jax.errors import UserError


class LabelTableSource(FileSource):
  """Images that `labels.csv` lists; see `label_tables`.

  Splits and slices are named as for class folders. A slice takes its share of
  the images in a fixed order that looks random, by the hashes of their names.

  Raises:
    UserError: on construction, if a table is wrong, an image that it lists does
      not exist, or the split has none; on reading, as `FileSource`.
  """

  def __init__(
    self,
    data_dir: str,
    split: str,
    *,
    exif_rotate: bool = True,
    channels: int = 3,
  ):
    """Reads the tables; see `FolderSource` for the arguments."""
    tables = read_tables(data_dir)
    super().__init__(exif_rotate=exif_rotate, channels=channels)
    self.class_names = tables.layout.class_names
    self.num_classes = len(self.class_names)
    self._images: list[tuple[bytes, tuple[int, ...]]] = []
    ranges = []
    for part in resolve(data_dir, list(tables.layout.splits), split):
      folder = tables.layout.splits[part.split]
      images = list(tables.images[part.split].items())
      order = slices.hash_order('', [os.fsencode(file) for file, _ in images])
      first, end = (
        int(bound[0]) for bound in slices.bounds(part, [len(images)])
      )
      for index in order[first:end]:
        file, labels = images[index]
        self._images.append((os.path.join(folder, os.fsencode(file)), labels))
      ranges.append((f'{part.split} of {data_dir}', first, end - first))
    if not self._images:
      raise UserError(f'{data_dir} has no images in split {split!r}')
    self._require_files(data_dir)
    self.origin = Origin(NAME, '', '', split, tuple(ranges), self.count_bytes())

  def __len__(self) -> int:
    return len(self._images)

  def path(self, index: int) -> bytes:
    """Returns the path of an image."""
    return self._images[index][0]

  def label(self, index: int) -> list[int]:
    """Returns the labels of an image, ascending."""
    return list(self._images[index][1])

  def _require_files(self, data_dir):
    missing = [
      index
      for index in range(len(self))
      if not os.path.isfile(self.path(index))
    ]
    if missing:
      raise UserError(
        f'{data_dir}: {len(missing):,} of {len(self):,} images that {FILE} '
        f'lists do not exist, such as {self.where(missing[0])}; correct their '
        'paths, or remove the rows'
      )
