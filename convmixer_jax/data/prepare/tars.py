"""Checks the headers of ImageNet's tars, before hours are spent on them."""

import os
import re
import tarfile
from collections.abc import Collection, Iterator

from convmixer_jax.errors import UserError, one_line

TRAIN = 'ILSVRC2012_img_train.tar'
VALIDATION = 'ILSVRC2012_img_val.tar'
TEST = 'ILSVRC2012_img_test.tar'

# Sizes in bytes of the archives of image-net.org, as listed in TFDS.
_ORIGINAL_BYTES = {TRAIN: 147_897_477_120, VALIDATION: 6_744_924_160}
_VALIDATION_NAME = re.compile(r'ILSVRC2012_val_(\d{8})\.JPEG')
_BLOCK = 512  # bytes: tar's unit; an archive ends with two blocks of zeros


def find_tars(directory: str, names: Collection[str]) -> list[str]:
  """Returns the paths of the named tars in a directory.

  Raises:
    UserError: some do not exist; the message names all of them.
  """
  missing = [
    name for name in names if not os.path.exists(os.path.join(directory, name))
  ]
  if missing:
    raise UserError(
      f'--manual_dir={directory} has no {" and no ".join(missing)}; it must '
      f'have {" and ".join(names)}, from https://image-net.org/download-images'
    )
  return [os.path.join(directory, name) for name in names]


def check_train_tar(path: str, synsets: Collection[str]) -> int:
  """Checks the tar that has one tar for each synset; returns their number.

  Args:
    path: path of ILSVRC2012_img_train.tar.
    synsets: the WordNet ids that TFDS has labels for, such as n01440764.

  Raises:
    UserError: the tar is truncated, or a member is not the tar of a known
      synset, or appears twice.
  """
  seen = set()
  for tar, member in _members(path):
    synset, extension = os.path.splitext(member.name)
    if extension != '.tar' or not member.isfile():
      raise UserError(
        f'{path} holds {member.name!r}; it should hold one tar for each '
        'synset, such as n01440764.tar, and nothing else'
      )
    if synset not in synsets:
      raise UserError(
        f'{path} holds {member.name!r}, but {synset!r} is not one of the '
        f'{len(synsets):,} synsets of ImageNet-1k'
      )
    if synset in seen:
      raise UserError(f'{path} holds {member.name!r} twice')
    seen.add(synset)
    _check_inner_tar(path, tar, member, synset)
  if not seen:
    raise UserError(f'{path} is an empty tar')
  return len(seen)


def check_validation_tar(path: str) -> int:
  """Checks the tar of validation images; returns their number.

  TFDS gives the n-th label of its list to the n-th *entry* of the tar, by name
  (`imagenet_common.get_validation_labels`). So after a directory, a missing or
  an additional file, each entry silently gets the label of another image.

  Raises:
    UserError: the tar is truncated, or contains anything but the images
      ILSVRC2012_val_00000001.JPEG and so on, each once.
  """
  repack = (
    'TFDS labels the images by their position among all entries, so every '
    'label after it would be shifted; pack the images alone: cd DIR_OF_IMAGES '
    f'&& ls | tar -cf ../{VALIDATION} -T -'
  )
  numbers = set()
  for _, member in _members(path):
    match = _VALIDATION_NAME.fullmatch(member.name)
    if not match or not member.isfile():
      kind = 'the directory ' if member.isdir() else ''
      raise UserError(f'{path} holds {kind}{member.name!r}; {repack}')
    if int(match[1]) in numbers:
      raise UserError(f'{path} holds {member.name!r} twice; {repack}')
    numbers.add(int(match[1]))
  if not numbers:
    raise UserError(f'{path} is an empty tar')
  gap = next((i for i in range(1, len(numbers) + 1) if i not in numbers), None)
  if gap is not None:
    raise UserError(
      f'{path} holds {len(numbers):,} images up to number {max(numbers):,}, '
      f'but not ILSVRC2012_val_{gap:08d}.JPEG; {repack}'
    )
  return len(numbers)


def check_test_tar(path: str) -> int:
  """Checks that the tar of test images is complete; returns their number."""
  return sum(member.isfile() for _, member in _members(path))


def _members(path: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
  """Yields a tar's members, skipping over their data.

  Raises:
    UserError: the file cannot be read, is not a tar, or is truncated.
  """
  try:
    size = os.path.getsize(path)
    with tarfile.open(path, 'r:') as tar:
      for member in tar:
        if member.offset_data + member.size > size:
          raise _truncation_error(path, size, f'within {member.name!r}')
        yield tar, member
      # tarfile takes an unreadable or missing header for the end.
      tar.fileobj.seek(tar.offset)
      if tar.fileobj.read(_BLOCK) != bytes(_BLOCK):
        raise _truncation_error(path, size, 'without an end mark')
  except tarfile.ReadError as error:
    if size == 0:
      raise _truncation_error(path, size, 'before it begins') from error
    raise UserError(f'{path} is not a tar: {one_line(error)}') from error
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error.strerror}') from error
  except (MemoryError, OverflowError) as error:  # sizes that cannot be
    raise UserError(f'{path} is not a tar: {one_line(error)}') from error


def _truncation_error(path: str, size: int, where: str) -> UserError:
  message = f'{path} ends {where}, after {size:,} bytes'
  original = _ORIGINAL_BYTES.get(os.path.basename(path))
  if original:
    message += f' (the original has {original:,})'
  return UserError(
    f'{message}: the download or copy is incomplete; download it again'
  )


def _check_inner_tar(
  path: str, tar: tarfile.TarFile, member: tarfile.TarInfo, synset: str
) -> None:
  """Checks the first image of a synset; checking all would take too long."""
  try:
    with tarfile.open(fileobj=tar.extractfile(member), mode='r:') as inner:
      first = next((m.name for m in inner if m.isfile()), 'nothing')
  except (tarfile.TarError, MemoryError, OverflowError) as error:
    raise UserError(
      f'{path}: its member {member.name!r} is not a tar: {one_line(error)}'
    ) from error
  if not os.path.normpath(first).startswith(f'{synset}_'):
    raise UserError(
      f'{path}: its member {member.name!r} begins with {first}, not with an '
      f'image of that synset, such as {synset}_1.JPEG'
    )
