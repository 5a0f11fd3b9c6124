"""The labels of an image: checks, and multi-hot arrays of several."""

from collections.abc import Callable, Sequence

import numpy as np

from convmixer_jax.errors import UserError


def multi_hot(labels: Sequence[int], num_classes: int) -> np.ndarray:
  """Returns int32 `[num_classes]`, 1 for each label; there may be none."""
  array = np.zeros(num_classes, np.int32)
  array[np.asarray(labels, np.int64)] = 1
  return array


def indices(
  label: Sequence[int] | np.ndarray,
  num_classes: int,
  is_multi_hot: bool,
  where: Callable[[], str],
) -> list[int]:
  """Returns the labels of an image in ascending order, checked.

  Args:
    label: the labels; or, if multi-hot, 0 or 1 for each class.
    num_classes: K.
    is_multi_hot: whether it is.
    where: names the image, for errors.

  Raises:
    UserError: a label is out of range or given twice; or a value of a multi-hot
      label is neither 0 nor 1.
  """
  values = np.ravel(np.asarray(label))
  if is_multi_hot:
    if len(values) != num_classes or not np.isin(values, (0, 1)).all():
      raise UserError(
        f'the label of image {where()} is {_shorten(values)}, not 0 or 1 for '
        f'each of {num_classes} classes; fix it, or leave the image out'
      )
    return np.flatnonzero(values).tolist()
  found = sorted(values.tolist())
  if found and not (0 <= found[0] and found[-1] < num_classes):
    raise out_of_range(_shorten(values), num_classes, where())
  for first, second in zip(found, found[1:], strict=False):
    if first == second:
      raise UserError(
        f'the labels of image {where()} have {first} twice; give each label '
        'once, or leave the image out'
      )
  return found


def out_of_range(label: object, num_classes: int, where: str) -> UserError:
  """Returns the error for a label that is not one of the classes."""
  return UserError(
    f'the label of image {where} is {label}, not from 0 to {num_classes - 1}; '
    'fix it, leave the image out, or choose another split'
  )


def _shorten(values):
  return np.array2string(values, threshold=12, separator=', ')
