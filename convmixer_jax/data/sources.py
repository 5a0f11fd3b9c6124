"""Sources of images: digits, class folders, or a prepared TFDS data set."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import ml_collections

from convmixer_jax import limits
from convmixer_jax.config import num_channels
from convmixer_jax.data import labels, own_source
from convmixer_jax.data.builders import (
  find_builder,
  folder_hint,
  has_array_record,
  is_prepared,
)
from convmixer_jax.data.digits import load_digits
from convmixer_jax.data.encoded_images import require_two_pixels
from convmixer_jax.data.examples import (
  Example,
  InMemorySource,
  Origin,
  Source,
)
from convmixer_jax.data.features import (
  check_number_of_names,
  find_class_names,
  is_multi_hot,
)
from convmixer_jax.data.folders.file_source import NAME as FOLDER
from convmixer_jax.data.folders.file_source import FileSource
from convmixer_jax.data.folders.label_source import LabelTableSource
from convmixer_jax.data.folders.source import FolderSource
from convmixer_jax.data.hugging_face.label_source import LabelListSource
from convmixer_jax.data.hugging_face.loading import PREFIX as HUGGING_FACE
from convmixer_jax.data.hugging_face.source import HuggingFaceSource
from convmixer_jax.data.in_memory import load_if_small
from convmixer_jax.data.open_files import keep_few_files_open
from convmixer_jax.data.record_images import RecordImages
from convmixer_jax.errors import UserError, one_line

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

_FILE_NAME = 'file_name'  # a feature of many data sets


class TfdsSource:
  """A split of a prepared TFDS data set, decoded when read without TensorFlow.

  Raises:
    UserError: on construction, if the data set is not prepared as array_record
      or has no labels or images of so many channels, or if the split does not
      exist or is empty; on reading, if a record is damaged, its image cannot be
      decoded or has one pixel only, or its label is out of range.
  """

  def __init__(
    self,
    name: str,
    split: str,
    data_dir: str,
    label: str = 'label',
    *,
    is_multi_label: bool = False,
    image: str = 'image',
    channels: int = 3,
  ):
    """Opens the split.

    Args:
      name: name of the data set; /config and :version are optional.
      split: the split, in TFDS's syntax.
      data_dir: directory of TFDS's data sets; '' for TFDS's default.
      label: feature with the label, or with a sequence of correct labels.
      is_multi_label: whether it is a sequence, or a 0 or 1 for each class.
      image: feature with the image, or several with commas, whose channels are
        stacked; see `record_images`.
      channels: of the images.
    """
    self._name, self._split, self._label = name, split, label
    self._is_multi_label = is_multi_label
    builder = prepared_builder(name, data_dir)
    features = builder.info.features
    self.class_names = find_class_names(
      name, features, label, image, is_multi_label=is_multi_label
    )
    self.num_classes = len(self.class_names)
    self._is_multi_hot = is_multi_hot(features[label])
    if not self._is_multi_hot:
      check_number_of_names(name, builder.data_path, label, self.class_names)
    self._images = RecordImages(name, features, image, channels)
    splits = builder.info.splits
    try:
      num_images = splits[split].num_examples
    except (ValueError, KeyError) as error:
      raise UserError(
        f'{name!r} has no split {split!r}; its splits are {", ".join(splits)}, '
        "and slices of them such as 'train[:10%]'"
      ) from error
    if num_images <= 0:  # negative for train[5:3]
      raise UserError(
        f'{name!r} has no images in split {split!r}; choose another'
      )
    self.origin = _origin_of(builder, split)
    self._records = builder.as_data_source(
      split, decoders=self._images.not_decoded()
    )
    keep_few_files_open(self._records, builder.info.splits[split])

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> Example:
    return self.decode(index, *self.stored_example(index))

  def stored_example(self, index: int) -> tuple[bytes, Any]:
    """Returns the bytes of an image file, and its label."""
    try:
      record = self._records[index]
    except Exception as error:  # TFDS raises any type for a damaged file
      raise UserError(
        f'cannot read record {self._where(index)} ({one_line(error)}); prepare '
        'the data set again'
      ) from error
    return self._stored(index, record)

  def stored_examples(self, indices: Sequence[int]) -> list[tuple[bytes, Any]]:
    """Returns what `stored_example` does of several indices, read together.

    Small records take a third of the time.
    """
    try:
      records = self._records.__getitems__(list(indices))
    except Exception:  # TFDS does not say which record is damaged
      return [self.stored_example(index) for index in indices]
    return list(map(self._stored, indices, records))

  def _stored(self, index, record):
    label = record[self._label]
    if self._is_multi_label:
      label = labels.indices(
        label, self.num_classes, self._is_multi_hot, lambda: self._where(index)
      )
    elif not 0 <= label < self.num_classes:
      raise labels.out_of_range(label, self.num_classes, self._where(index))
    where = partial(self._where_in_full, index)
    return self._images.stored(record, where), label

  def decode(self, index: int, data: bytes, label: Any) -> Example:
    """Returns the example of what `stored_example` returned."""
    where = partial(self._where_in_full, index)
    image = self._images.decode(data, where)
    require_two_pixels(image, where)
    if self._is_multi_label:
      label = labels.multi_hot(label, self.num_classes)
      return {'image': image, 'label': label}
    return {'image': image, 'label': int(label)}

  def decoded_size(self, data: bytes) -> int:
    """Returns the bytes of an image once it is decoded."""
    return self._images.decoded_size(data)

  def _where(self, index):
    return f'{index} of {self._name} {self._split}'

  def _where_in_full(self, index):
    file_name = self._records[index].get(_FILE_NAME)
    if not isinstance(file_name, bytes):
      return self._where(index)
    name = file_name.decode(errors='backslashreplace')
    return f'{self._where(index)} ({name})'


def create_source(
  config: ml_collections.ConfigDict,
  split: str,
  label: str | None = None,
) -> Source:
  """Opens a split of the data set that `config.dataset` names.

  A split that takes at most `cache_mib` when decoded is kept in memory, if that
  is at most a quarter of the memory that this process may use. See
  `open_source` for arguments and errors.
  """
  source = open_source(config, split, label)
  if isinstance(source, InMemorySource):
    return source
  allowed = min(config.cache_mib * 2**20, limits.memory_bytes() / 4)
  return load_if_small(source, int(allowed))


def open_source(
  config: ml_collections.ConfigDict,
  split: str,
  label: str | None = None,
) -> InMemorySource | FileSource | HuggingFaceSource | TfdsSource:
  """Opens a split as it is stored: images are decoded when they are read.

  Args:
    config: `config.dataset`.
    split: in TFDS's syntax; of digits, from 'train' and 'test'.
    label: feature of a TFDS data set that holds the label; None for
      `label_feature`.

  Raises:
    UserError: see `TfdsSource`, `FolderSource` and `HuggingFaceSource`.
  """
  own_source.refuse_object(config.name)
  channels = num_channels(config) if 'mean' in config else 3
  if config.name == 'digits':
    if config.get('multi_label'):
      raise UserError(
        "'digits' has one class for an image, and config.dataset.multi_label = "
        'True is for several; set it to False, or choose another data set'
      )
    return load_digits(split, channels)
  is_multi_label = config.get('multi_label', False)
  if config.name.startswith(HUGGING_FACE):
    of_hub = LabelListSource if is_multi_label else HuggingFaceSource
    return of_hub(
      config.name,
      split,
      config.data_dir,
      image=config.image_feature,
      label=config.label_feature,
      exif_rotate=config.exif_rotate,
      channels=channels,
    )
  if config.name == FOLDER:
    of_folder = LabelTableSource if is_multi_label else FolderSource
    return of_folder(
      config.data_dir,
      split,
      exif_rotate=config.exif_rotate,
      channels=channels,
    )
  return TfdsSource(
    config.name,
    split,
    config.data_dir,
    label or config.get('label_feature', 'label'),
    is_multi_label=is_multi_label,
    image=config.get('image_feature', 'image'),
    channels=channels,
  )


def require_classes(source: Source) -> None:
  """Raises UserError if there is nothing to tell apart in a data set."""
  if source.num_classes < 2:
    is_folder = source.origin.name == FOLDER
    raise UserError(
      f'{source.origin.name!r} has one class only, {source.class_names[0]!r}; '
      'choose a data set with two or more'
      + (', or the folder that holds the classes' if is_folder else '')
    )


def _origin_of(builder, split):
  """Returns where the examples of a split are from."""
  info = builder.info
  instructions = info.splits[split].file_instructions
  files = {instruction.filename for instruction in instructions}
  return Origin(
    info.name,
    info.config_name or '',
    str(info.version),
    split,
    tuple((x.filename, x.skip, x.take) for x in instructions),
    sum(
      int(whole.num_bytes)
      for whole in info.splits.values()
      if any(x.filename in files for x in whole.file_instructions)
    ),
  )


def prepared_builder(name: str, data_dir: str) -> 'tfds.core.DatasetBuilder':
  """Returns the TFDS builder of a data set prepared as array_record.

  Raises:
    UserError: it is not prepared so; the message has the command that does it.
  """
  builder = find_builder(name, data_dir)
  command = f'python -m convmixer_jax prepare {name}'
  command += f' --data_dir={data_dir}' if data_dir else ''
  if not is_prepared(builder):
    raise UserError(
      f'data set {name!r} is not prepared in {builder.data_path.parent}; '
      + (folder_hint(data_dir) or f'prepare it with: {command}')
    )
  if not has_array_record(builder):
    raise UserError(
      f'data set {name!r} in {builder.data_path} is stored as '
      f'{builder.info.file_format.value}, which cannot be read in random '
      f'order; convert it to array_record with: {command}'
    )
  return builder
