"""Finds the splits and classes of a directory of images, by its folders.

Two layouts are read, photos/CLASS/... and photos/SPLIT/CLASS/... A folder at
the top is a split if it has a split's name, in upper or lower case, and holds
folders but no images of its own. The directory has splits if one of them is
`train`, or if all folders at the top are splits; otherwise each folder at the
top is a class, even one that is called `test`.
"""

import collections
import dataclasses
import os
import unicodedata
from collections.abc import Iterable, Mapping

from convmixer_jax.data import image_files
from convmixer_jax.data.split_names import STANDARD
from convmixer_jax.errors import UserError

_SHOWN = 5  # names in a message


@dataclasses.dataclass(frozen=True)
class Layout:
  """The folders of a directory of images.

  Attributes:
    directory: as it was given.
    splits: folder of each split, as bytes; `train` alone is the directory
      itself if there is one level only.
    class_folders: of each split, the folder's name by the name of the class.
    class_names: of all splits, sorted by their characters.
    passed_over: names at the top, for people, that are neither.
  """

  directory: str
  splits: Mapping[str, bytes]
  class_folders: Mapping[str, Mapping[str, bytes]]
  class_names: tuple[str, ...]
  passed_over: tuple[str, ...]


def find_layout(data_dir: str) -> Layout:
  """Returns the splits and classes of a directory.

  Args:
    data_dir: local path of the directory.

  Raises:
    UserError: there is no such directory or no class in it, it cannot be read,
      or two folders stand for the same split or class.
  """
  root = _directory(data_dir)
  folders = _folders(root, data_dir)
  splits = {
    name: STANDARD[key]
    for name in folders
    if (key := os.fsdecode(name).lower()) in STANDARD
    and _holds_only_folders(os.path.join(root, name))
  }
  if 'train' not in splits.values() and len(splits) < len(folders):
    splits = {}
  passed_over: tuple[str, ...] = ()
  if splits:
    _require_unique(
      data_dir, 'split', [(splits[name], name) for name in splits]
    )
    passed_over = tuple(_shown(name) for name in folders if name not in splits)
    roots = {split: os.path.join(root, name) for name, split in splits.items()}
  else:
    roots = {'train': root}
  classes = {split: _classes(roots[split], data_dir) for split in roots}
  names = tuple(sorted({name for found in classes.values() for name in found}))
  if not names:
    raise UserError(
      f'{data_dir} has no folders in it; put the images into a folder for '
      f'each class, such as {os.path.join(data_dir, "cat")} and '
      f'{os.path.join(data_dir, "dog")}'
    )
  return Layout(data_dir, roots, classes, names, passed_over)


def looks_like_classes(data_dir: str) -> bool:
  """Returns whether a local directory could be opened as folders of images."""
  try:
    layout = find_layout(data_dir)
  except UserError:
    return False
  return any(
    _holds_image(os.path.join(layout.splits[split], folder))
    for split, folders in layout.class_folders.items()
    for folder in list(folders.values())[:_SHOWN]
  )


def join_names(names: Iterable[str]) -> str:
  """Returns a few of the names, for a message, and how many there are more."""
  names = list(names)
  more = len(names) - _SHOWN
  shown = ', '.join(names[:_SHOWN])
  return f'{shown} and {more:,} more' if more > 0 else shown


def _directory(data_dir: str) -> bytes:
  """Returns the path of an existing directory."""
  if not data_dir:
    raise UserError(
      "config.dataset.name = 'folder' needs config.dataset.data_dir; give the "
      'directory that has a folder of images for each class'
    )
  if '://' in data_dir:
    raise UserError(
      f'config.dataset.data_dir = {data_dir} is not on this machine; copy the '
      'images to it, or mount the bucket'
    )
  path = os.path.expanduser(data_dir)
  if not os.path.exists(path):
    here = '' if os.path.isabs(path) else f' in {os.getcwd()}'
    raise UserError(
      f'there is no directory {data_dir}{here} (config.dataset.data_dir); give '
      'the one that has a folder of images for each class'
    )
  if not os.path.isdir(path):
    raise UserError(
      f'{data_dir} (config.dataset.data_dir) is a file; give a directory that '
      'has a folder of images for each class, such as an unpacked archive'
    )
  return os.fsencode(path)


def _folders(path: bytes, data_dir: str) -> list[bytes]:
  """Returns the names of the folders in a folder that are not hidden."""
  try:
    names = sorted(os.listdir(path))
  except OSError as error:
    raise UserError(
      f'{image_files.display_name(os.fsdecode(path))} in {data_dir} cannot be '
      f'read ({error.strerror}); make it readable'
    ) from error
  return [
    name
    for name in names
    if not image_files.is_hidden(os.fsdecode(name))
    and os.path.isdir(os.path.join(path, name))
  ]


def _holds_only_folders(path: bytes) -> bool:
  """Returns whether a folder has folders, and no images beside them."""
  has_folder = False
  try:
    with os.scandir(os.fsdecode(path)) as entries:
      for entry in entries:
        if image_files.is_hidden(entry.name):
          continue
        if image_files.is_folder(entry):
          has_folder = True
        elif image_files.why_not_image(entry) is None:
          return False
  except OSError:
    return False
  return has_folder


def _holds_image(path: bytes) -> bool:
  try:
    with os.scandir(os.fsdecode(path)) as entries:
      return any(
        image_files.has_image_extension(entry.name)
        and not image_files.is_hidden(entry.name)
        for entry in entries
      )
  except OSError:
    return False


def _classes(path: bytes, data_dir: str) -> dict[str, bytes]:
  """Returns the class folders of a split: the folder of each name."""
  pairs = [
    (unicodedata.normalize('NFC', _shown(name)), name)
    for name in _folders(path, data_dir)
  ]
  _require_unique(data_dir, 'class', pairs)
  return dict(pairs)


def _require_unique(data_dir, kind, pairs):
  """Raises UserError if two folders stand for the same thing."""
  by_name = collections.defaultdict(list)
  for name, folder in pairs:
    by_name[name].append(folder)
  for name, folders in by_name.items():
    if len(folders) > 1:
      found = ' and '.join(repr(folder)[1:] for folder in folders)
      raise UserError(
        f'{data_dir} has two folders for the {kind} {name!r}, {found}; rename '
        'one of them'
      )


def _shown(name: bytes) -> str:
  return image_files.display_name(os.fsdecode(name))
