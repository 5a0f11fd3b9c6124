"""A source of images that was given as an object, checked example by example.

Anything with `__len__`, with `__getitem__` that returns
`{'image': ..., 'label': ...}`, and with `class_names`.
"""

import io
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import cloudpickle
import ml_collections
import numpy as np

from convmixer_jax.config import num_channels
from convmixer_jax.data import labels
from convmixer_jax.data.array_files import DTYPES
from convmixer_jax.data.examples import Example, Origin
from convmixer_jax.errors import UserError, first_line, user_code
from convmixer_jax.own_names import PREFIX, name_of, unwrap


class OwnSource:
  """A source of the user's with what the pipeline needs besides."""

  def __init__(
    self,
    source: Any,
    argument: str,
    split: str,
    dataset: ml_collections.ConfigDict,
  ):
    """Checks the source, and its first, middle and last example.

    Args:
      source: of the user, perhaps with a name.
      argument: that gave it, 'train_source' or 'eval_source'.
      split: name of the split in the run's files.
      dataset: `config.dataset`.

    Raises:
      UserError: it is not a source, is empty, gives other examples when it is
        asked again, or has examples that cannot be used.
    """
    self._source = unwrap(source)
    self.argument = argument
    self._num_channels = num_channels(dataset)
    self._is_multi_label = dataset.multi_label
    for method in ('__len__', '__getitem__'):
      if not hasattr(type(self._source), method):
        raise UserError(
          f'{argument} is a {type(self._source).__name__} without {method}; '
          'give an object with __len__, __getitem__ and class_names'
        )
    self.class_names = _class_names(self._source, argument)
    self.num_classes = len(self.class_names)
    self._dtype = None
    with user_code(f'len({argument}) fails'):
      size = len(self._source)
    if not size:
      raise UserError(f'{argument} is empty; give one with images')
    for index in sorted({0, len(self) // 2, len(self) - 1}):
      self._check_is_repeatable(index)
    name = name_of(source) or type(self._source).__name__
    self.origin = Origin(
      name=f'{PREFIX}{name}',
      config='',
      version='',
      split=split,
      ranges=((f'object {id(self._source)}', 0, len(self)),),
    )

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> Example:
    """Returns one example.

    Raises:
      UserError: it cannot be read, or used.
    """
    where = f'{self.argument}[{index}]'
    with user_code(f'{where} fails'):
      example = self._source[int(index)]
    if not isinstance(example, Mapping) or not {'image', 'label'} <= {*example}:
      raise UserError(
        f'{where} is a {type(example).__name__}, not a dict with image and '
        "label; return {'image': array, 'label': number}"
      )
    image = self._check_image(example['image'], where)
    return {'image': image, 'label': self._check_label(example['label'], where)}

  def stored_example(self, index: int) -> tuple[bytes, Any]:
    """Returns bytes that stand for an image, and its label or labels."""
    example = self[index]
    image = example['image']
    label: Any = example['label']
    if self._is_multi_label:
      label = np.flatnonzero(label).tolist()
    header = f'{image.dtype} {image.shape} '.encode()
    return header + image.tobytes(), label

  def _check_image(self, image, where):
    image = np.asarray(image)
    if image.dtype.name not in DTYPES:
      raise UserError(
        f'the image of {where} is {image.dtype}; give {", ".join(DTYPES[:-1])}'
        f' or {DTYPES[-1]}'
      )
    if image.ndim != 3 or image.shape[-1] != self._num_channels:
      raise UserError(
        f'the image of {where} has shape {list(image.shape)}; give [H, W, '
        f'{self._num_channels}], or set config.dataset.mean and std to one '
        'number for each channel'
      )
    if not image.size:
      raise UserError(
        f'the image of {where} has shape {list(image.shape)}, without a pixel; '
        'leave it out'
      )
    if self._dtype is None:
      self._dtype = image.dtype
    if image.dtype != self._dtype:
      raise UserError(
        f'the image of {where} is {image.dtype}, and that of '
        f'{self.argument}[0] {self._dtype}; give one dtype'
      )
    if image.dtype == np.float32 and not np.isfinite(image).all():
      raise UserError(
        f'the image of {where} has values that are not finite; correct it, or '
        'leave it out'
      )
    return image

  def _check_label(self, label, where):
    if self._is_multi_label:
      found = labels.indices(label, self.num_classes, True, lambda: where)
      return labels.multi_hot(found, self.num_classes)
    try:
      number = operator.index(label)
    except TypeError:
      raise UserError(
        f'the label of {where} is {label!r}, not a whole number from 0 to '
        f'{self.num_classes - 1}; give the index in class_names'
      ) from None
    if not 0 <= number < self.num_classes:
      raise UserError(
        f'the label of {where} is {number}, not from 0 to '
        f'{self.num_classes - 1}; correct it, or add to class_names'
      )
    return number

  def _check_is_repeatable(self, index):
    first, second = self[index], self[index]
    if not np.array_equal(first['image'], second['image']) or not (
      np.array_equal(first['label'], second['label'])
    ):
      raise UserError(
        f'{self.argument}[{index}] is another example when it is read again; '
        'give the same, and what is random as train_transform'
      )


def refuse_object(name: str) -> None:
  """Raises UserError if a `config.dataset.name` is that of an object."""
  if name.startswith(PREFIX):
    raise UserError(
      f'config.dataset.name = {name!r} is data that was given as an object in '
      'Python; give it again to train_and_evaluate, or name another data set'
    )


def find_copy_obstacle(part: Any, argument: str) -> str | None:
  """Returns why worker processes cannot have a copy of a part, or None.

  Args:
    part: a source or a function.
    argument: that gave it.
  """
  try:
    cloudpickle.Pickler(_Nowhere()).dump(part)
  except Exception as error:  # any, from the user's class
    return (
      f'{argument} cannot be copied to worker processes '
      f'({type(error).__name__}: {first_line(error)})'
    )
  return None


class _Nowhere(io.RawIOBase):
  """A file that keeps nothing."""

  def writable(self):
    return True

  def write(self, data):
    return memoryview(data).nbytes


def _class_names(source, argument):
  try:
    names = getattr(source, 'class_names', None)
  except Exception as error:  # any, from the user's code
    raise UserError(
      f'{argument}.class_names fails ({type(error).__name__}: '
      f'{first_line(error)}); correct it'
    ) from error
  if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
    found = 'a method' if callable(names) else repr(names)
    raise UserError(
      f'{argument}.class_names is {found}; give a list of strings, the names '
      'of the classes'
    )
  names = tuple(names)
  for name in names:
    if not isinstance(name, str):
      raise UserError(
        f'{argument}.class_names has {name!r}, not a string; give a list of '
        'strings'
      )
  if len(set(names)) < len(names):
    twice = next(name for name in names if names.count(name) > 1)
    raise UserError(
      f'{argument}.class_names has {twice!r} twice; give each class once'
    )
  return names
