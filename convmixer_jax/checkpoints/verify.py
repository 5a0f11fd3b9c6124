"""Reads a checkpoint back right after it was written, before it counts as one.

A file system, or a library, that does not keep what it was given must end a run
at its first checkpoint, not when the weights are needed.
"""

import json
import math
import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import tensorstore as ts
from etils import epath

from convmixer_jax import files
from convmixer_jax.errors import UserError

_SAMPLE = 2**20  # bytes of the arrays whose values are compared


class Expected(NamedTuple):
  """What the item of a checkpoint must hold.

  Attributes:
    arrays: shape and dtype by name, such as 'params.head.bias'.
    values: of some of them.
  """

  arrays: Mapping[str, tuple[tuple[int, ...], np.dtype]]
  values: Mapping[str, np.ndarray]


def expect(tree: Any, with_values: bool) -> Expected:
  """Returns what the saved form of a tree must hold.

  Args:
    tree: of arrays.
    with_values: whether to keep a copy of the values of the first arrays that
      take at most a MiB together; not of those that are split over devices.
  """
  arrays, values, left = {}, {}, _SAMPLE
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator='.')
    arrays[name] = np.shape(leaf), np.dtype(leaf.dtype)
    is_whole = not isinstance(leaf, jax.Array) or leaf.is_fully_replicated
    if with_values and is_whole and leaf.nbytes <= left:
      left -= leaf.nbytes
      values[name] = np.array(leaf)
  return Expected(arrays, values)


def verify(directory: epath.Path, items: Mapping[str, Expected]) -> None:
  """Checks that the items of a checkpoint can be read.

  All files that reading needs must be there and long enough, all arrays must
  have their shape and dtype, and some their values.

  Args:
    directory: of the checkpoint.
    items: what each item that consists of arrays must hold.

  Raises:
    UserError: says what is missing or differs.
  """
  try:
    for name, expected in items.items():
      _verify_item(directory / name, expected)
    for path in directory.iterdir():
      if path.is_dir() and path.name not in items:
        for file in path.iterdir():
          if file.name in ('metadata', 'metrics'):
            json.loads(file.read_text())
  except UserError:
    raise
  except Exception as error:  # TensorStore raises many types
    text = ' '.join(str(error).split())[:200]
    raise _damaged(f'{type(error).__name__}: {text}') from error


def _verify_item(directory, expected):
  item = directory.name
  metadata = json.loads((directory / '_METADATA').read_text())
  if len(metadata['tree_metadata']) < len(expected.arrays):
    raise _damaged(f'{item}/_METADATA does not list all arrays')
  database = {'driver': 'ocdbt', 'base': _storage(directory)}
  store = ts.KvStore.open(database).result()
  keys = [key.decode() for key in store.list().result()]
  chunks = {}
  for key in keys:
    name, _, chunk = key.rpartition('/')
    chunks.setdefault(name, set()).add(chunk)
  if missing := expected.arrays.keys() - chunks.keys():
    raise _damaged(f'{item} lacks {min(missing)}')
  headers = {name: store.read(f'{name}/.zarray') for name in expected.arrays}
  for name, (shape, dtype) in expected.arrays.items():
    header = json.loads(headers[name].result().value)
    found = tuple(header['shape']), np.dtype(header['dtype'])
    if found != (shape, dtype):
      raise _damaged(f'{item}.{name} is {found}, not {(shape, dtype)}')
    pieces = map(_ceil_divide, header['shape'], header['chunks'])
    if math.prod(pieces) > len(chunks[name] - {'.zarray'}):
      raise _damaged(f'{item}.{name} is incomplete')
  _verify_data_files(directory)
  for name, value in expected.values.items():
    spec = {'driver': 'zarr', 'kvstore': database | {'path': f'{name}/'}}
    found = ts.open(spec, open=True, read=True).result().read().result()
    if np.asarray(found).tobytes() != value.tobytes():
      raise _damaged(f'{item}.{name} has other values')


def _verify_data_files(directory):
  """Checks that files that the database refers to are there and long enough."""
  base = ts.KvStore.open(_storage(directory)).result()
  versions = ts.ocdbt.dump(base).result()['versions']
  nodes, needed = [versions[-1]['root']['location']], {}
  while nodes:
    node = nodes.pop()
    _note(needed, node)
    content = ts.ocdbt.dump(base, node=node).result()
    for entry in content['entries']:
      if content['height']:
        nodes.append(entry['location'])
      elif 'indirect_value' in entry:
        _note(needed, entry['indirect_value'])
  for name, size in needed.items():
    path = directory / name
    if not path.exists() or files.file_size(path) < size:
      raise _damaged(f'{directory.name}/{name} is missing or too short')


def _note(needed, location):
  """Adds a file and its least length, from KIND:BASE:FILE:OFFSET:LENGTH."""
  _, base, file, offset, length = location.split(':')
  name = urllib.parse.unquote(base + file)
  needed[name] = max(needed.get(name, 0), int(offset) + int(length))


def _storage(directory: epath.Path) -> dict[str, Any]:
  if not files.is_in_bucket(directory):
    return {'driver': 'file', 'path': f'{directory}/'}
  bucket, _, path = str(directory).removeprefix('gs://').partition('/')
  return {'driver': 'gcs', 'bucket': bucket, 'path': f'{path}/'}


def _ceil_divide(size, part):
  return -(-size // part)


def _damaged(what):
  return UserError(f'it cannot be read back: {what}')
