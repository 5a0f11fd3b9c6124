"""Makes a data set from a tar of images named split/label/name.jpg."""

import lzma
import os
import pathlib
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, cast

from convmixer_jax.data.image_files import has_image_extension, is_hidden
from convmixer_jax.data.prepare import array_record_set
from convmixer_jax.errors import UserError, one_line

_MAX_BYTES = 2**30  # of an image


def prepare_image_tar(path: str, data_dir: pathlib.Path, name: str) -> str:
  """Writes the data set `name` with the splits and labels of the tar.

  Image files are copied unchanged. Labels are numbered in alphabetical order.

  Args:
    path: path of the tar, compressed or not.
    data_dir: directory of TFDS's data sets, to which the data set is added.
    name: name of the data set.

  Returns:
    The contents, such as 'train: 50,000 images'.

  Raises:
    UserError: the tar cannot be read, or has another layout.
  """
  splits: dict[str, list[tuple[bytes, str]]] = {}
  for split, label, content in _read_images(path):
    splits.setdefault(split, []).append((content, label))
  class_names = sorted({label for rows in splits.values() for _, label in rows})
  numbers = {label: number for number, label in enumerate(class_names)}
  directory = data_dir / name / '1.0.0'
  os.makedirs(directory, exist_ok=True)
  lengths = {
    split: array_record_set.write_split(
      directory, name, split, ((image, numbers[label]) for image, label in rows)
    )
    for split, rows in splits.items()
  }
  features = {
    'image': array_record_set.image_feature(),
    'label': array_record_set.label_feature(len(class_names)),
  }
  array_record_set.write_info(directory, name, features, lengths, class_names)
  return ', '.join(f'{split}: {n:,} images' for split, n in lengths.items())


def check_image_tar(path: str) -> None:
  """Checks that the first file of the tar is an image with the right name.

  Args:
    path: path of the tar, compressed or not.

  Raises:
    UserError: the tar cannot be read, or its first file has another name.
  """
  next(_read_images(path))


def _read_images(path: str) -> Iterator[tuple[str, str, bytes]]:
  """Yields split, label and content of each image; there is at least one."""
  is_empty = True
  try:
    with tarfile.open(path) as tar:
      for member in tar:
        parts = pathlib.PurePosixPath(member.name).parts
        if not member.isfile() or is_hidden('/'.join(parts)):
          continue  # such as the files ._name.jpg of macOS
        if not member.name.isprintable():
          raise tarfile.ReadError(f'a name is not text: {member.name!r}')
        if len(parts) != 3 or not has_image_extension(member.name):
          raise UserError(
            f'{path} has a file {member.name!r}; it must contain only images '
            'named split/label/name.jpg'
          )
        split, label, _ = parts
        if member.sparse or not 0 <= member.size <= _MAX_BYTES:
          raise tarfile.ReadError(f"{member.name!r} is not of an image's size")
        content = cast(IO[bytes], tar.extractfile(member))  # it is a file
        yield split, label, content.read()
        is_empty = False
      # tarfile takes a damaged header for the end, which must be zeros. Reading
      # to the end also verifies the checksum of a compressed file.
      rest = cast(IO[bytes], tar.fileobj)
      rest.seek(tar.offset)
      end = rest.read()
      if len(end) < tarfile.BLOCKSIZE or any(end):
        raise tarfile.ReadError('it is truncated or damaged')
  except UserError:
    raise
  except (
    *(OSError, EOFError, MemoryError, OverflowError, ValueError),
    tarfile.TarError,
    *(lzma.LZMAError, zlib.error),  # raised for damaged files
  ) as error:
    raise UserError(
      f'{path} cannot be read as a tar ({one_line(error)})'
    ) from error
  if is_empty:
    raise UserError(
      f'{path} has no images; it must contain images named split/label/name.jpg'
    )
