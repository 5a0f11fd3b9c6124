"""Where images come from: scikit-learn's digits, or any prepared TFDS set."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypedDict

import ml_collections
import numpy as np

from convmixer_jax.data.builders import (
  find_builder,
  has_array_record,
  is_prepared,
)
from convmixer_jax.data.decode import decode_image
from convmixer_jax.errors import UserError

_DIGITS_TEST_EVERY = 5  # of each class, in the set's own order
_LEAST_SIDE = 2  # pixels; a single one is a placeholder, not a picture


class Example(TypedDict):
  """An image `[H, W, 3]` in uint8 and its label.

  Where several labels may be right: an int array `[num_classes]` of 0 and 1.
  """

  image: np.ndarray
  label: int | np.ndarray


class Source(Protocol):
  """Examples by number: what the pipeline shuffles and batches.

  Attributes:
    num_classes: how many there are.
    class_names: as the data set has them, such as 'n01440764'.
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
  """Examples that are decoded already."""

  def __init__(self, examples: Sequence[Example], class_names: Sequence[str]):
    self._examples = examples
    self.class_names = tuple(class_names)
    self.num_classes = len(self.class_names)

  def __len__(self) -> int:
    return len(self._examples)

  def __getitem__(self, index: int) -> Example:
    return self._examples[index]


class TfdsSource:
  """A split of a prepared TFDS set, decoded when read; no TensorFlow needed.

  Raises:
    UserError: on construction, if the set is not prepared as array_record, has
      no such split, no images in it, or none of 8 bits with labels; on reading,
      if a record is damaged, its image cannot be decoded or is of one pixel, or
      its label is out of range.
  """

  def __init__(
    self, name: str, split: str, data_dir: str, label: str = 'label'
  ):
    """Opens the split.

    Args:
      name: of the set, with /config and :version if wanted.
      split: in TFDS's syntax.
      data_dir: where TFDS keeps its sets; '' for its default.
      label: the feature that holds the label, or a sequence of right ones.
    """
    import tensorflow_datasets as tfds

    self._name, self._split, self._label = name, split, label
    builder = prepared_builder(name, data_dir)
    features = builder.info.features
    if not {'image', label} <= set(features):
      raise UserError(
        f'config.dataset.name = {name!r} has the features '
        f'{", ".join(features)}; needed are image and {label}: choose a set of '
        'images with labels'
      )
    _check_pixels(name, features['image'])
    classes = features[label]
    self._has_several = isinstance(classes, tfds.features.Sequence)
    if self._has_several:
      classes = classes.feature
    is_label = isinstance(classes, tfds.features.ClassLabel)
    if not is_label or not classes.num_classes:
      raise UserError(
        f'config.dataset.name = {name!r}: its feature {label} names no '
        "classes; choose a set with TFDS's ClassLabel"
      )
    self.class_names = tuple(classes.names)
    self.num_classes = len(self.class_names)
    try:
      num_images = builder.info.splits[split].num_examples
    except (ValueError, KeyError) as error:
      splits = ', '.join(builder.info.splits)
      raise UserError(
        f'{name!r} has no split {split!r}; there are {splits}, and slices of '
        "them such as 'train[:10%]'"
      ) from error
    if num_images <= 0:  # less, in train[5:3]
      raise UserError(
        f'{name!r} has no images in split {split!r}; choose another'
      )
    self._records = builder.as_data_source(
      split, decoders={'image': tfds.decode.SkipDecoding()}
    )

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> Example:
    where = f'{index} of {self._name} {self._split}'
    try:
      record = self._records[index]
    except Exception as error:  # from a damaged file by way of TFDS: any
      reason = ' '.join(str(error).split()) or type(error).__name__
      raise UserError(
        f'cannot read record {where} ({reason[:200]}); prepare the set again'
      ) from error
    image = decode_image(record['image'], where=where)
    if min(image.shape[:2]) < _LEAST_SIDE:
      height, width = image.shape[:2]
      raise UserError(
        f'image {where} is {height} x {width} pixels, too small to be a '
        'picture; replace it or leave it out of the data set'
      )
    label = record[self._label]
    if not all(0 <= one < self.num_classes for one in np.ravel(label)):
      raise UserError(
        f'the label of image {where} is {label}, not from 0 to '
        f'{self.num_classes - 1}; mend it, leave the image out, or choose '
        'another split'
      )
    if self._has_several:
      several = np.zeros(self.num_classes, np.int32)
      several[label] = 1
      return {'image': image, 'label': several}
    return {'image': image, 'label': int(label)}


def create_source(
  config: ml_collections.ConfigDict, split: str, label: str = 'label'
) -> TfdsSource | InMemorySource:
  """Opens a split of the data set that `config.dataset` names.

  Sets that need less than `cache_mib` once decoded are kept in memory.

  Args:
    config: `config.dataset`.
    split: 'train' or 'test' for digits; for TFDS, its split syntax.
    label: the feature of a TFDS set that holds the label.

  Raises:
    UserError: see `TfdsSource`.
  """
  if config.name == 'digits':
    return _digits(split)
  source = TfdsSource(config.name, split, config.data_dir, label)
  if len(source) * source[0]['image'].nbytes <= config.cache_mib * 2**20:
    return _in_memory(source)
  return source


def _check_pixels(name, feature):
  """Raises UserError unless a feature is of images that become 8-bit RGB."""
  import tensorflow_datasets as tfds

  what = None
  if not isinstance(feature, tfds.features.Image):
    what = f'a feature image that is no Image but a {type(feature).__name__}'
  elif feature.np_dtype != np.uint8:
    what = f'images of {np.dtype(feature.np_dtype).name}'
  elif feature.shape[-1] not in (None, 1, 3):
    what = f'images of {feature.shape[-1]} channels'
  if what:
    raise UserError(
      f'config.dataset.name = {name!r} has {what}; needed are images of uint8 '
      'with 1 or 3 channels: convert them, or choose another set'
    )


def _digits(split: str) -> InMemorySource:
  """The 1,797 bundled digits: every fifth of each class is held out."""
  from sklearn.datasets import load_digits

  if split not in ('train', 'test'):
    raise UserError(f"'digits' has no split {split!r}; there are train, test")
  digits = load_digits()
  place_in_class = np.zeros(len(digits.target), int)
  for label in range(10):
    members = digits.target == label
    place_in_class[members] = np.arange(members.sum())
  held_out = place_in_class % _DIGITS_TEST_EVERY == _DIGITS_TEST_EVERY - 1
  chosen = np.flatnonzero(held_out == (split == 'test'))
  grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
  return InMemorySource(
    [
      {'image': np.repeat(grey[i, ..., None], 3, -1), 'label': int(label)}
      for i, label in zip(chosen, digits.target[chosen], strict=True)
    ],
    class_names=[str(name) for name in digits.target_names],
  )


def _in_memory(source: TfdsSource) -> InMemorySource:
  with ThreadPoolExecutor(os.cpu_count()) as pool:
    examples = list(pool.map(source.__getitem__, range(len(source))))
  return InMemorySource(examples, source.class_names)


def prepared_builder(name: str, data_dir: str):
  """Returns TFDS's builder of a set that is prepared as array_record.

  Raises:
    UserError: it is not, and how to prepare it.
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
