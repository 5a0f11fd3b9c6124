"""A state dict from a table: names and axes of timm's tensors and our arrays.

A network lists its layers; names of files, shapes and both ways of conversion
follow.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from convmixer_jax.models.tensors import compare, without_wrappers

Kind = Literal['same', 'dense', 'conv', 'channels', 'patches']

# PyTorch's BatchNorm counts batches, and does not use it. In files that are
# written it is 0.
_COUNTER = 'num_batches_tracked'
_MEAN = 'running_mean'


class Entry(NamedTuple):
  """One of our arrays, and the tensor it is in files.

  Attributes:
    path: of the array, from 'params' or 'batch_stats' on.
    name: timm's, in which I is the number of a block; our arrays of such names
      are stacked along a leading axis, and may not be there.
    kind: 'same'; 'dense', whose tensor is transposed; 'conv', a kernel
      `[k, k, c, C]` whose tensor is `[C, c, k, k]`; 'channels', a vector
      `[C]` whose tensor is `[1, 1, C]`; or 'patches', a dense kernel
      `[p * p * c, C]` whose tensor is a convolution's `[C, c, p, p]`.
    first: I of the first block in the stack.
  """

  path: tuple[str, ...]
  name: str
  kind: Kind = 'same'
  first: int = 0


def dense(path: Sequence[str], name: str, kind: Kind = 'dense') -> list[Entry]:
  """Returns the entries of a dense layer."""
  return [
    Entry(('params', *path, 'kernel'), f'{name}.weight', kind),
    Entry(('params', *path, 'bias'), f'{name}.bias'),
  ]


def norm(path: Sequence[str], name: str) -> list[Entry]:
  """Returns the entries of a normalisation without running statistics."""
  return [
    Entry(('params', *path, 'scale'), f'{name}.weight'),
    Entry(('params', *path, 'bias'), f'{name}.bias'),
  ]


def batch_norm(path: Sequence[str], name: str, first: int = 0) -> list[Entry]:
  """Returns the entries of a BatchNorm."""
  names = {
    ('params', *path, 'scale'): 'weight',
    ('params', *path, 'bias'): 'bias',
    ('batch_stats', *path, 'mean'): _MEAN,
    ('batch_stats', *path, 'var'): 'running_var',
  }
  return [
    Entry(ours, f'{name}.{theirs}', first=first)
    for ours, theirs in names.items()
  ]


class Table:
  """Converts between timm's tensors and our variables."""

  def __init__(self, entries: Sequence[Entry], network: str):
    """Takes all arrays of a network, and its name for errors."""
    self._entries = entries
    self._network = network
    self._names = re.compile(
      '|'.join(
        re.escape(name).replace('I', r'\d+', 1)
        for entry in entries
        for name in {entry.name, _counter(entry.name)}
      )
    )

  def matches(self, name: str) -> bool:
    """Whether one of the network's tensors may have this name."""
    return self._names.fullmatch(name) is not None

  def from_timm(self, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns `params` and `batch_stats`, of what there is in `tensors`."""
    arrays = {}
    for path, name, kind, first in self._entries:
      if 'I' not in name:
        if name in tensors:
          arrays[path] = _to_ours(tensors[name], kind)
        continue
      count = count_blocks(tensors, name, first)
      if count:
        names = [_numbered(name, first + i) for i in range(count)]
        arrays[path] = np.stack([_to_ours(tensors[n], kind) for n in names])
    return {'params': {}, 'batch_stats': {}} | unflatten_dict(arrays)

  def to_timm(
    self, variables: Mapping[str, Any], channels: int = 3
  ) -> dict[str, np.ndarray]:
    """Returns the whole `state_dict` of our variables.

    Args:
      variables: `params` and `batch_stats`.
      channels: of the images.
    """
    tensors = self._to_timm(variables, channels)
    counters = {
      _counter(name): np.zeros((), np.int64)
      for name in tensors
      if name.endswith(_MEAN)
    }
    return {
      name: np.ascontiguousarray(tensor)
      for name, tensor in (tensors | counters).items()
    }

  def _to_timm(self, variables, channels):
    ours = flatten_dict(dict(variables))
    tensors = {}
    for path, name, kind, first in self._entries:
      if 'I' not in name:
        tensors[name] = _to_timm(np.asarray(ours[path]), kind, channels)
        continue
      for i, of_block in enumerate(np.asarray(ours.get(path, ()))):
        tensors[_numbered(name, first + i)] = _to_timm(of_block, kind, channels)
    return tensors

  def check(
    self,
    tensors: Mapping[str, np.ndarray],
    shapes: Mapping[str, Any],
    source: str,
    channels: int = 3,
  ) -> dict[str, np.ndarray]:
    """Compares tensors with the shapes of our variables.

    Args:
      tensors: by timm's names, as `clean` gives them.
      shapes: of `module.init`, by `jax.eval_shape`.
      source: what the tensors were read from, for errors.
      channels: of the images.

    Returns:
      The tensors, float32; those that are so already are not copied.

    Raises:
      UserError: some are missing, surplus or misshapen.
    """
    empty = jax.tree.map(
      lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), dict(shapes)
    )
    as_timm = self._to_timm(empty, channels)
    expected = {name: tensor.shape for name, tensor in as_timm.items()}
    layout = f'{self._network} as timm lays it out'
    compare(tensors, expected, source, layout, self._network)
    return {
      name: tensors[name].astype(np.float32, copy=False) for name in expected
    }


def clean(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the tensors without prefixes of wrappers, and without counters."""
  return {
    without_wrappers(name): tensor
    for name, tensor in tensors.items()
    if not name.endswith(_COUNTER)
  }


def size(tensors: Mapping[str, np.ndarray], name: str, axis: int) -> int:
  """Returns the length of a tensor's axis; 1 where it is not there."""
  shape = tensors[name].shape if name in tensors else ()
  return shape[axis] if -len(shape) <= axis < len(shape) else 1


def count_blocks(
  tensors: Mapping[str, np.ndarray], name: str, first: int = 0
) -> int:
  """Returns how many blocks in a row, from `first` on, have a tensor `name`."""
  count = 0
  while _numbered(name, first + count) in tensors:
    count += 1
  return count


def _counter(name):
  """Returns the name of the counter beside a running mean."""
  return name.replace(_MEAN, _COUNTER)


def _numbered(name, number):
  return name.replace('I', str(number), 1)


def _to_ours(tensor, kind):
  if kind == 'dense':
    return tensor.T
  if kind == 'conv':
    return tensor.transpose(2, 3, 1, 0)
  if kind == 'channels':
    return tensor.reshape(-1)
  if kind == 'patches':
    return tensor.transpose(2, 3, 1, 0).reshape(-1, len(tensor))
  return tensor


def _to_timm(array, kind, channels):
  if kind == 'dense':
    return array.T
  if kind == 'conv':
    return array.transpose(3, 2, 0, 1)
  if kind == 'channels':
    return array.reshape(1, 1, -1)
  if kind == 'patches':
    side = round((array.shape[0] / channels) ** 0.5)
    return array.reshape(side, side, channels, -1).transpose(3, 2, 0, 1)
  return array
