"""Reads `labels.csv`: the labels of images in folders, any number for each.

The table is beside the images, `photos/labels.csv`, or in the folder of each
split, `photos/train/labels.csv`. Its first row is `file,labels`; each further
row has the path of an image, relative to the table, and its labels, separated
by `;` or `|`, or nothing for none. A table for all images may have a third
column, `split`. Images that no table lists are left out.
"""

import csv
import dataclasses
import io
import os
import unicodedata
from collections.abc import Mapping

from convmixer_jax.data.folders.layout import Layout, join_names
from convmixer_jax.data.split_names import STANDARD
from convmixer_jax.errors import UserError
from convmixer_jax.files import require_local

FILE = 'labels.csv'


@dataclasses.dataclass(frozen=True)
class LabelTables:
  """The images of a directory with their labels.

  Attributes:
    layout: with the splits and the classes, sorted by name; no class folders.
    images: by split, the paths of its images relative to the split's folder, in
      the order of the table; each with its labels by number, ascending.
  """

  layout: Layout
  images: Mapping[str, Mapping[str, tuple[int, ...]]]


def has_tables(data_dir: str) -> bool:
  """Returns whether a local directory has tables of labels."""
  return bool(_find(data_dir))


def read_tables(data_dir: str) -> LabelTables:
  """Reads all tables of a directory.

  Raises:
    UserError: there is none, one cannot be read, or a row is wrong.
  """
  require_local(data_dir, 'config.dataset.data_dir')
  tables = _find(data_dir)
  if not tables:
    raise UserError(
      f'{data_dir} has no {FILE}, which config.dataset.multi_label = True '
      'needs for a folder; write one with the columns file and labels, or set '
      'it to False for class folders'
    )
  folders = dict(tables)
  found: dict[str, dict[str, tuple[str, ...]]] = {}
  for default, folder in tables.items():
    path = os.path.join(folder, FILE)
    for split, file, labels in _rows(path, default):
      if folders.setdefault(split, folder) != folder:
        raise UserError(
          f'{path} has {file!r} in the split {split}, which has a table in '
          f'{folders[split]}; list it there, or write one table beside the '
          'folders, with the column split'
        )
      images = found.setdefault(split, {})
      if file in images:
        raise UserError(f'{path} has {file!r} twice; keep one row')
      images[file] = labels
  names = sorted(
    {x for rows in found.values() for y in rows.values() for x in y}
  )
  if not names:
    raise UserError(f'{data_dir}: no row of {FILE} has a label; add some')
  number = {name: k for k, name in enumerate(names)}
  layout = Layout(
    data_dir,
    {split: os.fsencode(folders[split]) for split in found},
    {},
    tuple(names),
    (),
  )
  return LabelTables(
    layout,
    {
      split: {
        file: tuple(sorted(number[name] for name in labels))
        for file, labels in images.items()
      }
      for split, images in found.items()
    },
  )


def _find(data_dir):
  """Returns by split the folders that have a table; train for all images."""
  root = os.path.abspath(os.path.expanduser(data_dir))
  if os.path.isfile(os.path.join(root, FILE)):
    return {'train': root}
  try:
    names = sorted(os.listdir(root))
  except OSError:
    return {}
  found: dict[str, str] = {}
  for name in names:
    split = STANDARD.get(name.lower())
    folder = os.path.join(root, name)
    if split is None or not os.path.isfile(os.path.join(folder, FILE)):
      continue
    if split in found:
      raise UserError(
        f'{found[split]} and {folder} are both the split {split}; rename one'
      )
    found[split] = folder
  return found


def _rows(path, default_split):
  """Yields split, file and labels of each row."""
  try:
    with open(path, encoding='utf-8-sig', newline='') as file:
      text = file.read()
    if '\n' not in text:
      text = text.replace('\r', '\n')
  except (OSError, UnicodeDecodeError) as error:
    reason = getattr(error, 'strerror', None) or 'it is not UTF-8'
    raise UserError(f'{path} cannot be read ({reason}); correct it') from error
  reader = csv.DictReader(io.StringIO(text), strict=True)
  try:
    columns = reader.fieldnames or []
    if not {'file', 'labels'} <= set(columns):
      raise UserError(
        f'{path} has the columns {join_names(map(repr, columns)) or "none"}, '
        "but 'file' and 'labels' are required, named in its first row and "
        'separated by a comma'
      )
    if len(set(columns)) < len(columns):
      raise UserError(
        f'{path} has two columns of one name among '
        f'{join_names(map(repr, columns))}; separate labels by ; or | in one'
      )
    for row in reader:
      where = f'{path}, line {reader.line_num}'
      if row['labels'] is None or None in row:
        raise UserError(
          f'{where} does not have {len(columns)} cells; separate labels by ; '
          'or |'
        )
      yield (
        _split(row.get('split'), default_split, where),
        _file(row['file'], where),
        _labels(row['labels'], where),
      )
  except csv.Error as error:
    raise UserError(
      f'{path}, line {reader.line_num} is not CSV ({error}); correct it'
    ) from error


def _split(name, default, where):
  if name is None:
    return default
  split = STANDARD.get(name.strip().lower())
  if split is None:
    raise UserError(
      f'{where} has the split {name!r}; give train, validation or test'
    )
  return split


def _file(name, where):
  if not name or os.path.isabs(name) or '..' in name.split('/'):
    raise UserError(
      f'{where} has the file {name!r}; give a path relative to the table, in '
      'its folder'
    )
  return os.path.normpath(name)


def _labels(text, where):
  if not text.strip():
    return ()
  text = unicodedata.normalize('NFC', text)
  labels = tuple(x.strip() for x in text.replace('|', ';').split(';'))
  for label in labels:
    if not label.isprintable():
      raise UserError(
        f'{where} has the label {label!r}, with a character that cannot be '
        'printed; remove it'
      )
    if not label:
      raise UserError(f'{where} has an empty label in {text!r}; remove it')
    if labels.count(label) > 1:
      raise UserError(f'{where} has the label {label!r} twice; keep one')
  return labels
