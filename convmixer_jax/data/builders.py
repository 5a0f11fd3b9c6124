"""Finds the TFDS builder of a data set, prepared or not."""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from convmixer_jax.data.folders.layout import looks_like_classes
from convmixer_jax.errors import UserError, one_line
from convmixer_jax.files import require_local

if TYPE_CHECKING:
  import tensorflow_datasets as tfds


def find_builder(name: str, data_dir: str | None) -> 'tfds.core.DatasetBuilder':
  """Returns the TFDS builder, from the prepared files if there are any.

  Args:
    name: name of the data set, as for `tfds.load`: a config and a version are
      optional.
    data_dir: directory of TFDS's data sets; None or '' for TFDS's default.

  Raises:
    UserError: `data_dir` is in a bucket, TFDS does not know the data set,
      config or version, or its files are damaged.
  """
  import tensorflow_datasets as tfds

  data_dir = require_local(data_dir, 'data_dir')
  data_dir = os.path.expanduser(data_dir) if data_dir else None
  try:
    with _temporary_files_removed():
      builder = tfds.builder(name, data_dir=data_dir)
    if is_prepared(builder):
      # TFDS ignores alternative formats unless it builds from the files alone.
      return tfds.builder_from_directory(builder.data_path)
    return builder
  except tfds.core.DatasetNotFoundError as error:
    if _is_path(name):
      raise _path_error(name) from error
    raise UserError(
      f'{name!r} is neither digits nor a TFDS data set; '
      + (
        folder_hint(data_dir)
        or 'https://www.tensorflow.org/datasets/catalog lists them'
      )
    ) from error
  except json.JSONDecodeError as error:
    raise _open_error(name, error) from error
  except (ValueError, AssertionError) as error:  # its config or version
    if _is_path(name):
      raise _path_error(name) from error
    reason = one_line(error, limit=None).rpartition('}": ')[-1]
    known = ', '.join(_configs(name))
    reason += f' {known}' if known and known not in reason else ''
    raise UserError(f'{name!r}: {reason}') from error
  except Exception as error:  # TFDS raises any type for a damaged file
    if namespace := re.match(r'(\w+):[a-z]', name):
      raise UserError(
        f'{name!r}: the list of the data sets of {namespace[1]} cannot be read '
        f'({one_line(error)}); check the network, or name a set of TFDS itself'
      ) from error
    raise _open_error(name, error) from error


def folder_hint(data_dir: str | None) -> str:
  """Returns how to train on a directory of class folders, '' if it is none."""
  if not data_dir or not looks_like_classes(data_dir):
    return ''
  return (
    f'{data_dir} has folders of images: to use these, give '
    f'config.dataset.name = folder and config.dataset.data_dir = {data_dir}'
  )


def is_prepared(builder: 'tfds.core.DatasetBuilder') -> bool:
  """Returns whether the data set is prepared, in any file format."""
  return os.path.exists(builder.data_path / 'dataset_info.json')


def has_array_record(builder: 'tfds.core.DatasetBuilder') -> bool:
  """Returns whether the data set is prepared as array_record."""
  formats = {f.value for f in builder.info.available_file_formats()}
  return is_prepared(builder) and 'array_record' in formats


@contextlib.contextmanager
def _temporary_files_removed() -> Iterator[None]:
  """Removes the temporary directory that TFDS leaves for each builder."""
  before = tempfile.tempdir
  with tempfile.TemporaryDirectory() as directory:
    tempfile.tempdir = directory
    try:
      yield
    finally:
      tempfile.tempdir = before


def _is_path(name):
  return name.startswith(('/', '~', '.')) or os.path.isdir(name)


def _path_error(name):
  return UserError(
    f'{name!r} is a path, not the name of a data set; for images in a folder '
    'for each class, give config.dataset.name = folder and '
    f'config.dataset.data_dir = {name}; for a prepared set its name, such as '
    'cifar10, and the directory that has it as data_dir'
  )


def _open_error(name, error):
  return UserError(
    f'{name!r} cannot be opened ({one_line(error)}); fix it, or prepare it '
    'again'
  )


def _configs(name):
  import tensorflow_datasets as tfds

  try:
    return tfds.builder_cls(name.partition('/')[0]).builder_configs
  except ValueError:
    return ()
