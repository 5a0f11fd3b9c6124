"""The columns of images and labels of a Hugging Face set, and its classes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convmixer_jax.errors import UserError

if TYPE_CHECKING:
  import datasets


def check_columns(
  name: str,
  features: Mapping[str, Any],
  image: str,
  label: str,
  *,
  is_multi_label: bool = False,
) -> None:
  """Checks that there are columns of images and of labels with these names.

  Args:
    name: of the data set.
    features: of the package `datasets`, by column.
    image: `config.dataset.image_feature`.
    label: `config.dataset.label_feature`.
    is_multi_label: whether an image has a list of labels, or one.

  Raises:
    UserError: one is not there or of another type; the message has those that
      are.
  """
  import datasets

  images = [k for k, v in features.items() if isinstance(v, datasets.Image)]
  is_label = _is_list_of_labels if is_multi_label else _is_label
  labels = [k for k, v in features.items() if is_label(v)]
  for key, column, known in (
    ('image_feature', image, images),
    ('label_feature', label, labels),
  ):
    if column in known:
      continue
    if ',' in column:
      reason = 'names several columns, and one is read'
    elif column in features:
      reason = f'is a column of {_describe(features[column])}'
    else:
      reason = 'is not a column'
    cure = 'choose another data set'
    if known:
      cure = f'give {" or ".join(f"--config.dataset.{key}={k}" for k in known)}'
    kind = 'lists of ClassLabel' if is_multi_label else 'labels'
    what = 'images' if known is images else kind
    raise UserError(
      f'config.dataset.{key} = {column!r} {reason} of {name}, whose columns of '
      f'{what} are {", ".join(known) or "none"}; {cure}'
    )


def read_labels(
  name: str,
  splits: Mapping[str, 'datasets.Dataset'],
  wanted: Sequence[str],
  column: str,
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
  """Returns the names of the classes, and the labels of some splits.

  Args:
    name: of the data set.
    splits: all of them.
    wanted: those whose labels are returned.
    column: of the labels: a `ClassLabel`, whole numbers, or names.

  Returns:
    The names; of strings those of all splits, sorted; and int64 `[N]` of each
    split.

  Raises:
    UserError: an image has no label, or one that is out of range; or a split
      has other classes than the first one.
  """
  import datasets

  feature = next(iter(splits.values())).features[column]
  _require_same_classes(name, splits, wanted, column)
  if isinstance(feature, datasets.ClassLabel):
    names = list(feature.names)
    values = {k: _column(splits[k], column) for k in wanted}
  else:
    values = {k: _column(split, column) for k, split in splits.items()}
    found = {v for column in values.values() for v in column if v is not None}
    if feature.dtype in ('string', 'large_string'):
      names = sorted(found)
    else:
      names = [str(k) for k in range(max(found, default=-1) + 1)]
  number = {known: k for k, known in enumerate(names)}
  labels = {}
  for split in wanted:
    array = np.array(
      [
        number.get(v, -1) if isinstance(v, str) else -1 if v is None else int(v)
        for v in values[split]
      ],
      np.int64,
    )
    wrong = np.flatnonzero((array < 0) | (array >= len(names)))
    if len(wrong):
      raise UserError(
        f'{len(wrong):,} of the {len(array):,} images in {split} of {name} '
        f'have no label of its {len(names)} classes, such as image {wrong[0]} '
        f'({values[split][wrong[0]]}); choose another split'
      )
    labels[split] = array
  return tuple(names), labels


def read_label_lists(
  name: str,
  splits: Mapping[str, 'datasets.Dataset'],
  wanted: Sequence[str],
  column: str,
) -> tuple[tuple[str, ...], dict[str, list[list[int]]]]:
  """Returns the names of the classes, and the lists of labels of some splits.

  Args:
    name: of the data set.
    splits: all of it.
    wanted: those whose labels are returned.
    column: of lists of `ClassLabel`.

  Raises:
    UserError: a split has other classes than the first one.
  """
  _require_same_classes(name, splits, wanted, column)
  feature = next(iter(splits.values())).features[column].feature
  lists = {
    split: [values or [] for values in _column(splits[split], column)]
    for split in wanted
  }
  return tuple(feature.names), lists


def _require_same_classes(name, splits, wanted, column):
  """Raises UserError if splits that are read number their classes otherwise."""
  import datasets

  feature = next(iter(splits.values())).features[column]
  for split, table in splits.items():
    other = table.features.get(column)
    kinds = {type(getattr(x, 'feature', x)) for x in (feature, other)}
    are_classes = datasets.ClassLabel in kinds
    is_read = split in wanted or not are_classes
    if is_read and (other is None or (are_classes and other != feature)):
      raise UserError(
        f'{split} of {name} has other classes in the column {column!r} than '
        f'{next(iter(splits))}, or no such column; give its splits one '
        'ClassLabel'
      )


def _column(split, column):
  return split.select_columns(column).with_format(None)[:][column]


def _is_label(feature):
  dtype = getattr(feature, 'dtype', '')
  return dtype in ('string', 'large_string') or (
    isinstance(dtype, str) and dtype.startswith(('int', 'uint'))
  )


def _is_list_of_labels(feature):
  import datasets

  return isinstance(getattr(feature, 'feature', None), datasets.ClassLabel)


def _describe(feature):
  return getattr(feature, 'dtype', '') or type(feature).__name__
