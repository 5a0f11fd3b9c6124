"""The identity of the data of a run: which images and classes it has seen.

It is a dict for JSON: `name`, `config` and `version` of the data set; its
`class_names`; and in `splits`, for each split by its spelling, `num_examples`
and `content`, a hash; and the dtype of the images, `image_dtype`, unless it is
uint8. Where the files are and how they are read is no part of it.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from convmixer_jax.data.examples import Source, iterate_stored
from convmixer_jax.data.folders.duplicates import find_duplicates
from convmixer_jax.data.folders.file_source import FileSource
from convmixer_jax.data.image_files import display_name

# Images that are hashed: all, or as many evenly spaced ones as a second or two
# allow.
_SAMPLE_BYTES = 2**25
_MIN_SAMPLE, _MAX_SAMPLE = 64, 2**13
_KINDS = {'name': str, 'config': str, 'version': str, 'class_names': list}
_OF_SPLIT = {'num_examples': int, 'content': str}

Identity = dict[str, Any]


def identify(*sources: Source) -> Identity:
  """Returns the identity of splits of one data set.

  Args:
    sources: of the splits. Labels that are read are checked.

  Raises:
    UserError: a record cannot be read, or has a label that is out of range.
  """
  origin = sources[0].origin
  dtype = sources[0][0]['image'].dtype.name
  return {
    'name': origin.name,
    'config': origin.config,
    'version': origin.version,
    'class_names': list(sources[0].class_names),
    **({} if dtype == 'uint8' else {'image_dtype': dtype}),
    'splits': {
      source.origin.split: {
        'num_examples': len(source),
        'content': _hash_content(source),
      }
      for source in sources
    },
  }


def check(identity: Any) -> Identity:
  """Returns an identity that was read from a file.

  Raises:
    ValueError: it is something else.
  """
  if not isinstance(identity, dict):
    raise ValueError('it is not a JSON object')
  _check_keys(identity, {**_KINDS, 'splits': dict})
  for split in identity['splits'].values():
    _check_keys(split, _OF_SPLIT)
  return identity


def differences(recorded: Identity, found: Identity) -> list[str]:
  """Returns in words what differs in the data set, and in splits of both."""
  changed = [
    f'{key} ({recorded[key] or None} -> {found[key] or None})'
    for key in ('name', 'config', 'version')
    if recorded[key] != found[key]
  ]
  names = recorded['class_names'], found['class_names']
  if names[0] != names[1]:
    changed.append(_describe_classes(*names))
  for split, old in recorded['splits'].items():
    new = found['splits'].get(split, old)
    if old['num_examples'] != new['num_examples']:
      changed.append(
        f'number of examples in {split} ({old["num_examples"]:,} -> '
        f'{new["num_examples"]:,})'
      )
    elif old['content'] != new['content']:
      changed.append(f'images or labels of {split}')
  return changed


def fingerprint(identity: Identity) -> dict[str, str]:
  """Returns what must be the same in all processes of a run, by name."""
  version = '/'.join(filter(None, (identity['config'], identity['version'])))
  return {'version of the data': version} | {
    f'records of {split}': f'{values["num_examples"]} {values["content"][:12]}'
    for split, values in identity['splits'].items()
  }


def overlap_warning(train: Source, evaluated: Source) -> str | None:
  """Returns a warning if examples are in the training split and in another.

  Of folders also if files with the same content are.

  Args:
    train: the training split.
    evaluated: the split to evaluate on, of the same data set.
  """
  shared = shared_examples(train, evaluated)
  if not shared:
    return _duplicates_warning(train, evaluated)
  return (
    f'WARNING: {shared:,} of the {len(evaluated):,} examples of '
    f'{evaluated.origin.split!r} are in {train.origin.split!r}, which the '
    'network is trained on; its accuracy on new images may be lower'
  )


def _duplicates_warning(train, evaluated):
  """Returns the same for files of folders that have the same content."""
  train, evaluated = (
    getattr(source, 'stored', source) for source in (train, evaluated)
  )
  if not (isinstance(train, FileSource) and isinstance(evaluated, FileSource)):
    return None
  found = find_duplicates(train, evaluated)
  if found.example is None:
    return None
  mine, other = (display_name(os.fsdecode(path)) for path in found.example)
  return (
    f'WARNING: {found.num_found:,} of {found.compared:,} images of '
    f'{evaluated.origin.split!r} have the same content as images of '
    f'{train.origin.split!r}, such as {mine} and {other}; the accuracy on new '
    'images may be lower'
  )


def shared_examples(one: Source, other: Source) -> int:
  """Returns how many examples two splits of one data set have in common."""
  return sum(
    max(0, min(first + count, begin + size) - max(first, begin))
    for file, first, count in other.origin.ranges
    for name, begin, size in one.origin.ranges
    if name == file
  )


def are_numbers(class_names: Sequence[str]) -> bool:
  """Returns whether classes have their numbers for names: '0', '1' and so on.

  Then nothing says which class is which.
  """
  return list(class_names) == [str(i) for i in range(len(class_names))]


def _check_keys(values: Any, kinds: Mapping[str, type]) -> None:
  for key, kind in kinds.items():
    if not isinstance(values, dict) or not isinstance(values.get(key), kind):
      raise ValueError(f'{key} is missing or not of type {kind.__name__}')


def _describe_classes(old, new):
  """Returns how lists of class names differ."""
  if sorted(old) == sorted(new):
    k = next(k for k, name in enumerate(old) if name != new[k])
    return f'order of the classes (class {k} is {old[k]!r} -> {new[k]!r})'
  if len(old) != len(new):
    return f'number of classes ({len(old):,} -> {len(new):,})'
  lost = next(name for name in old if name not in set(new))
  added = next(name for name in new if name not in set(old))
  return f'classes (such as {lost!r} -> {added!r})'


def _hash_content(source: Source) -> str:
  """Returns a hash of all stored examples, or of many where they are large."""
  content = hashlib.sha256()
  size = 0
  stored = iterate_stored(source, _spread(len(source)))
  for count, (index, data, label) in enumerate(stored):
    is_large = size > _SAMPLE_BYTES and count >= _MIN_SAMPLE
    if is_large or count == _MAX_SAMPLE:
      content.update(f'{source.origin.num_bytes} bytes in all'.encode())
      break
    content.update(f'{index} {len(data)} {np.ravel(label).tolist()} '.encode())
    content.update(data)
    size += len(data)
  return content.hexdigest()


def _spread(length: int) -> Iterator[int]:
  """Yields 0 to length - 1 so that the first ones are evenly spaced.

  The bits of 0, 1, 2 ... are reversed.
  """
  bits = max(length - 1, 0).bit_length()
  for number in range(2**bits):
    index = int(f'{number:0{bits}b}'[::-1], 2) if bits else 0
    if index < length:
      yield index
