"""Keeps data sets in memory that fit there, once they are decoded."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from absl import logging

from convmixer_jax import limits
from convmixer_jax.data.decode import count_pixels
from convmixer_jax.data.examples import (
  Example,
  InMemorySource,
  Source,
  read_stored,
)

_SAMPLE = 64  # headers that say whether it is worth to decode at all
_MARGIN = 1.5  # by which an estimate from them must be too large
_PART = 64  # images of a task, which are read together
_OVERHEAD = 512  # bytes of Python's objects for each example


class StoredSource(Source, Protocol):
  """A source that decodes its examples when they are read.

  If its images are not uint8 RGB, `decoded_size(data)` returns the bytes of an
  image by the header of its file.
  """

  def decode(self, index: int, data: bytes, label: int) -> Example:
    """Returns the example of what `stored_example` returned."""
    ...


def load_if_small(source: StoredSource, limit: int) -> Source:
  """Returns the source in memory, if it fits there; else the source itself.

  The bytes of each image are counted before it is decoded, so that there are
  never more than `limit` in memory.

  Args:
    source: whose examples are decoded when they are read.
    limit: in bytes, of all decoded examples.
  """
  if not limit:
    return source
  sample = np.unique(np.linspace(0, len(source) - 1, _SAMPLE).astype(int))
  count_values = getattr(source, 'decoded_size', _rgb_size)

  def decoded_size(data):
    return count_values(data) + _OVERHEAD

  stored = read_stored(source, sample.tolist())
  sizes = [decoded_size(data) for data, _ in stored]
  if np.mean(sizes) * len(source) > _MARGIN * limit:
    return source
  budget = _Budget(limit)

  def load(index, data, label):
    if budget.is_exceeded or not budget.take(decoded_size(data)):
      return None
    return source.decode(index, data, label)

  def load_part(first):
    if budget.is_exceeded:
      return []
    part = range(first, min(first + _PART, len(source)))
    stored = zip(part, read_stored(source, part), strict=True)
    return [load(index, *example) for index, example in stored]

  examples: list[Example] = []
  with ThreadPoolExecutor(limits.num_cores()) as pool:
    for part in pool.map(load_part, range(0, len(source), _PART)):
      if budget.is_exceeded:
        break
      examples += part
  if budget.is_exceeded:
    logging.warning(
      '%s %s takes more than %g MiB once decoded (config.dataset.cache_mib, '
      'and at most a quarter of the memory); its images are read from disk',
      source.origin.name,
      source.origin.split,
      limit / 2**20,
    )
    return source
  return InMemorySource(examples, source.class_names, source.origin, source)


class _Budget:
  """Bytes that threads share."""

  def __init__(self, limit):
    self._left = limit
    self._lock = threading.Lock()
    self.is_exceeded = False

  def take(self, size):
    """Returns whether there is room for so many bytes, and takes them."""
    with self._lock:
      self._left -= size
      self.is_exceeded |= self._left < 0
      return not self.is_exceeded


def _rgb_size(data):
  """Returns the bytes of the pixels of a file in uint8 RGB, by its header."""
  return 3 * count_pixels(data)
