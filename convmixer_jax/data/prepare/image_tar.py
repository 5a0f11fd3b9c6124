"""Makes a data set of a tar of images, laid out as split/label/name.jpg."""

import lzma
import os
import pathlib
import tarfile
import zlib
from collections.abc import Iterator

from convmixer_jax.data.prepare import array_record_set
from convmixer_jax.errors import UserError

_ENDINGS = ('.jpg', '.jpeg', '.png')


def prepare_image_tar(path: str, data_dir: pathlib.Path, name: str) -> str:
  """Writes the data set `name`, with the splits and labels that the tar has.

  The files go in as they are. Labels are numbered in the order of their names.

  Args:
    path: of the tar, compressed or not.
    data_dir: where the set is put, as TFDS keeps its sets.
    name: of the set.

  Returns:
    What is in it, such as 'train: 50,000 images'.

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
  """Checks the first image, which takes no time.

  Args:
    path: of the tar, compressed or not.

  Raises:
    UserError: the tar cannot be read, or its first file is not such an image.
  """
  next(_read_images(path))


def _read_images(path: str) -> Iterator[tuple[str, str, bytes]]:
  """Yields split, label and content; one image at least."""
  is_empty = True
  try:
    with tarfile.open(path) as tar:
      for member in tar:
        if not member.isfile():
          continue
        parts = pathlib.PurePosixPath(member.name).parts
        if len(parts) != 3 or not member.name.lower().endswith(_ENDINGS):
          raise UserError(
            f'{path} has a file {member.name!r}; needed are images named '
            'split/label/name.jpg and nothing else'
          )
        split, label, _ = parts
        yield split, label, tar.extractfile(member).read()
        is_empty = False
      # A damaged header ends the loop as the end does, which is zeros. Read to
      # its end, a compressed file checks its checksum too.
      tar.fileobj.seek(tar.offset)
      end = tar.fileobj.read()
      if len(end) < tarfile.BLOCKSIZE or any(end):
        raise tarfile.ReadError('it is cut or damaged')
  except (
    *(OSError, EOFError, tarfile.TarError),
    *(lzma.LZMAError, zlib.error),  # of damaged files
  ) as error:
    raise UserError(f'{path} cannot be read as a tar ({error})') from error
  if is_empty:
    raise UserError(f'{path} has no images; needed are split/label/name.jpg')
