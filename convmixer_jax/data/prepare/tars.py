"""Checks ImageNet's tars by their headers, before hours are spent on them."""

import os
import re
import tarfile
from collections.abc import Collection, Iterator

from convmixer_jax.errors import UserError

TRAIN = 'ILSVRC2012_img_train.tar'
VALIDATION = 'ILSVRC2012_img_val.tar'
TEST = 'ILSVRC2012_img_test.tar'

# Bytes of the archives that image-net.org hands out, as TFDS records them.
_ORIGINAL_BYTES = {TRAIN: 147_897_477_120, VALIDATION: 6_744_924_160}
_VALIDATION_NAME = re.compile(r'ILSVRC2012_val_(\d{8})\.JPEG')
_BLOCK = 512  # bytes: tar's unit; an archive ends with two blocks of zeros


def find_tars(directory: str, names: Collection[str]) -> list[str]:
  """Returns the paths of the named tars in a directory.

  Raises:
    UserError: one of them is not there or cannot be read; all that are missing
      are named at once.
  """
  missing = [
    name for name in names if not os.path.exists(os.path.join(directory, name))
  ]
  if missing:
    raise UserError(
      f'--manual_dir={directory} has no {" and no ".join(missing)}; needed '
      f'there: {" and ".join(names)}, from https://image-net.org/download-images'
    )
  return [os.path.join(directory, name) for name in names]


def check_train_tar(path: str, synsets: Collection[str]) -> int:
  """Checks the tar of one inner tar for each synset; returns their number.

  Args:
    path: of ILSVRC2012_img_train.tar.
    synsets: the WordNet ids that TFDS has labels for, such as n01440764.

  Raises:
    UserError: the tar is cut short, or a member is no tar of a known synset
      that is there once.
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
        f'{path} holds {member.name!r}, but {synset!r} is none of the '
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
  (`imagenet_common.get_validation_labels`). So a directory, a gap or a stray
  file gives each entry behind it another image's label, and nothing says so.

  Raises:
    UserError: the tar is cut short, or it holds anything but the images
      ILSVRC2012_val_00000001.JPEG and so on, each once.
  """
  repack = (
    'TFDS labels the images by their place among all entries, so every label '
    'behind it would be shifted; pack the images alone: cd DIR_OF_IMAGES && '
    f'ls | tar -cf ../{VALIDATION} -T -'
  )
  places = set()
  for _, member in _members(path):
    match = _VALIDATION_NAME.fullmatch(member.name)
    if not match or not member.isfile():
      kind = 'the directory ' if member.isdir() else ''
      raise UserError(f'{path} holds {kind}{member.name!r}; {repack}')
    if int(match[1]) in places:
      raise UserError(f'{path} holds {member.name!r} twice; {repack}')
    places.add(int(match[1]))
  if not places:
    raise UserError(f'{path} is an empty tar')
  gap = next((i for i in range(1, len(places) + 1) if i not in places), None)
  if gap is not None:
    raise UserError(
      f'{path} holds {len(places):,} images up to number {max(places):,}, but '
      f'not ILSVRC2012_val_{gap:08d}.JPEG; {repack}'
    )
  return len(places)


def check_test_tar(path: str) -> int:
  """Checks that the tar of test images is whole; returns their number."""
  return sum(member.isfile() for _, member in _members(path))


def _members(path: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
  """Yields a tar's members, skipping over their data.

  Raises:
    UserError: the file cannot be read, is no tar, or is cut short.
  """
  try:
    size = os.path.getsize(path)
    with tarfile.open(path, 'r:') as tar:
      for member in tar:
        if member.offset_data + member.size > size:
          raise _cut_short(path, size, f'within {member.name!r}')
        yield tar, member
      # tarfile takes a header it cannot read, or none, for the end.
      tar.fileobj.seek(tar.offset)
      if tar.fileobj.read(_BLOCK) != bytes(_BLOCK):
        raise _cut_short(path, size, 'without an end mark')
  except tarfile.ReadError as error:
    if size == 0:
      raise _cut_short(path, size, 'before it begins') from error
    raise UserError(f'{path} is not a tar: {error}') from error
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error.strerror}') from error


def _cut_short(path: str, size: int, where: str) -> UserError:
  message = f'{path} ends {where}, after {size:,} bytes'
  original = _ORIGINAL_BYTES.get(os.path.basename(path))
  if original:
    message += f' (the original has {original:,})'
  return UserError(f'{message}: a broken download or copy? Fetch it again')


def _check_inner_tar(
  path: str, tar: tarfile.TarFile, member: tarfile.TarInfo, synset: str
) -> None:
  """Looks at the first image of a synset; the rest would take too long."""
  try:
    with tarfile.open(fileobj=tar.extractfile(member), mode='r:') as inner:
      first = next((m.name for m in inner if m.isfile()), 'nothing')
  except tarfile.ReadError as error:
    raise UserError(
      f'{path}: its member {member.name!r} is not a tar: {error}'
    ) from error
  if not os.path.normpath(first).startswith(f'{synset}_'):
    raise UserError(
      f'{path}: its member {member.name!r} begins with {first}, not with an '
      f'image of that synset, such as {synset}_1.JPEG'
    )
