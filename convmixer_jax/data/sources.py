"""Sources of images: scikit-learn's digits, or a prepared TFDS data set."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypedDict

import ml_collections
import numpy as np

from convmixer_jax import limits
from convmixer_jax.data.builders import (
  find_builder,
  has_array_record,
  is_prepared,
)
from convmixer_jax.data.decode import decode_image
from convmixer_jax.data.open_files import keep_few_files_open
from convmixer_jax.errors import UserError, one_line

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

_DIGITS_TEST_EVERY = 5  # of each class, in scikit-learn's order
_MIN_SIDE = 2  # pixels; an image of a single pixel is a placeholder


class Example(TypedDict):
  """An image `[H, W, 3]` in uint8 and its label.

  In a multi-label data set, `label` is an int array `[num_classes]` of 0 and 1.
  """

  image: np.ndarray
  label: int | np.ndarray


class Source(Protocol):
  """Random access to examples; the pipeline shuffles and batches them.

  Attributes:
    num_classes: number of classes.
    class_names: names in the data set, such as 'n01440764'.
  """

  num_classes: int
  class_names: tuple[str, ...]

  def __len__(self) -> int:
    """Returns the number of examples."""
    ...

  def __getitem__(self, index: int) -> Example:
    """Returns one example."""
    ...


class InMemorySource:
  """Decoded examples in memory."""

  def __init__(self, examples: Sequence[Example], class_names: Sequence[str]):
    self._examples = examples
    self.class_names = tuple(class_names)
    self.num_classes = len(self.class_names)

  def __len__(self) -> int:
    return len(self._examples)

  def __getitem__(self, index: int) -> Example:
    return self._examples[index]


class TfdsSource:
  """A split of a prepared TFDS data set, decoded when read without TensorFlow.

  Raises:
    UserError: on construction, if the data set is not prepared as array_record
      or has no labels or 8-bit images, or if the split does not exist or is
      empty; on reading, if a record is damaged, its image cannot be decoded or
      has one pixel only, or its label is out of range.
  """

  def __init__(
    self, name: str, split: str, data_dir: str, label: str = 'label'
  ):
    """Opens the split.

    Args:
      name: name of the data set; /config and :version are optional.
      split: the split, in TFDS's syntax.
      data_dir: directory of TFDS's data sets; '' for TFDS's default.
      label: feature with the label, or with a sequence of correct labels.
    """
    import tensorflow_datasets as tfds

    self._name, self._split, self._label = name, split, label
    builder = prepared_builder(name, data_dir)
    features = builder.info.features
    if not {'image', label} <= set(features):
      raise UserError(
        f'config.dataset.name = {name!r} has the features '
        f'{", ".join(features)}, but image and {label} are required; choose a '
        'data set of images with labels'
      )
    _check_image_feature(name, features['image'])
    classes = features[label]
    self._is_multi_label = isinstance(classes, tfds.features.Sequence)
    if self._is_multi_label:
      classes = classes.feature
    is_label = isinstance(classes, tfds.features.ClassLabel)
    if not is_label or not classes.num_classes:
      raise UserError(
        f'config.dataset.name = {name!r}: its feature {label} does not define '
        "classes; choose a data set with TFDS's ClassLabel"
      )
    self.class_names = tuple(classes.names)
    self.num_classes = len(self.class_names)
    try:
      num_images = builder.info.splits[split].num_examples
    except (ValueError, KeyError) as error:
      splits = ', '.join(builder.info.splits)
      raise UserError(
        f'{name!r} has no split {split!r}; its splits are {splits}, and slices '
        "of them such as 'train[:10%]'"
      ) from error
    if num_images <= 0:  # negative for train[5:3]
      raise UserError(
        f'{name!r} has no images in split {split!r}; choose another'
      )
    self._records = builder.as_data_source(
      split, decoders={'image': tfds.decode.SkipDecoding()}
    )
    keep_few_files_open(self._records, builder.info.splits[split])

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> Example:
    where = f'{index} of {self._name} {self._split}'
    try:
      record = self._records[index]
    except Exception as error:  # TFDS raises any type for a damaged file
      raise UserError(
        f'cannot read record {where} ({one_line(error)}); prepare the data set '
        'again'
      ) from error
    image = decode_image(record['image'], where=where)
    if min(image.shape[:2]) < _MIN_SIDE:
      height, width = image.shape[:2]
      raise UserError(
        f'image {where} is {height} x {width} pixels, which is too small; '
        'replace it or leave it out of the data set'
      )
    label = record[self._label]
    if not all(0 <= value < self.num_classes for value in np.ravel(label)):
      raise UserError(
        f'the label of image {where} is {label}, not from 0 to '
        f'{self.num_classes - 1}; fix it, leave the image out, or choose '
        'another split'
      )
    if self._is_multi_label:
      multi_hot = np.zeros(self.num_classes, np.int32)
      multi_hot[label] = 1
      return {'image': image, 'label': multi_hot}
    return {'image': image, 'label': int(label)}


def create_source(
  config: ml_collections.ConfigDict, split: str, label: str = 'label'
) -> TfdsSource | InMemorySource:
  """Opens a split of the data set that `config.dataset` names.

  A data set that takes at most `cache_mib` when decoded is kept in memory, if
  that is at most a quarter of the memory that this process may use.

  Args:
    config: `config.dataset`.
    split: 'train' or 'test' for digits; for TFDS, a split in its syntax.
    label: feature of a TFDS data set that holds the label.

  Raises:
    UserError: see `TfdsSource`.
  """
  if config.name == 'digits':
    return _load_digits(split)
  source = TfdsSource(config.name, split, config.data_dir, label)
  allowed = min(config.cache_mib * 2**20, limits.memory_bytes() / 4)
  if len(source) * source[0]['image'].nbytes <= allowed:
    return _load_into_memory(source)
  return source


def _check_image_feature(name, feature):
  """Raises UserError unless a feature has images that become 8-bit RGB."""
  import tensorflow_datasets as tfds

  found = None
  if not isinstance(feature, tfds.features.Image):
    found = f'a feature image of type {type(feature).__name__}, not Image'
  elif feature.np_dtype != np.uint8:
    found = f'images of {np.dtype(feature.np_dtype).name}'
  elif feature.shape[-1] not in (None, 1, 3):
    found = f'images of {feature.shape[-1]} channels'
  if found:
    raise UserError(
      f'config.dataset.name = {name!r} has {found}, but images of uint8 with 1 '
      'or 3 channels are required; convert them, or choose another data set'
    )


def _load_digits(split: str) -> InMemorySource:
  """Returns the bundled 1,797 digits; every fifth of each class is for test."""
  from sklearn.datasets import load_digits

  if split not in ('train', 'test'):
    raise UserError(
      f"'digits' has no split {split!r}; its splits are train, test"
    )
  digits = load_digits()
  index_in_class = np.zeros(len(digits.target), int)
  for label in range(10):
    members = digits.target == label
    index_in_class[members] = np.arange(members.sum())
  held_out = index_in_class % _DIGITS_TEST_EVERY == _DIGITS_TEST_EVERY - 1
  chosen = np.flatnonzero(held_out == (split == 'test'))
  grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
  return InMemorySource(
    [
      {'image': np.repeat(grey[i, ..., None], 3, -1), 'label': int(label)}
      for i, label in zip(chosen, digits.target[chosen], strict=True)
    ],
    class_names=[str(name) for name in digits.target_names],
  )


def _load_into_memory(source: TfdsSource) -> InMemorySource:
  with ThreadPoolExecutor(limits.num_cores()) as pool:
    examples = list(pool.map(source.__getitem__, range(len(source))))
  return InMemorySource(examples, source.class_names)


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
      f'prepare it with: {command}'
    )
  if not has_array_record(builder):
    raise UserError(
      f'data set {name!r} in {builder.data_path} is stored as '
      f'{builder.info.file_format.value}, which cannot be read in random '
      f'order; convert it to array_record with: {command}'
    )
  return builder
