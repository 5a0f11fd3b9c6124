"""Examples, the interface of their sources, and a source in memory."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypedDict

import numpy as np

_PART = 64  # examples that `iterate_stored` reads together


class Example(TypedDict):
  """An image `[H, W, C]`, uint8, uint16 or float32, and its label.

  In a multi-label data set, `label` is an int array `[num_classes]` of 0 and 1.
  """

  image: np.ndarray
  label: int | np.ndarray


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where the examples of a source are from.

  Attributes:
    name: of the data set.
    config: TFDS's config of it, '' for none.
    version: of the data set, '' if it has none.
    split: as it was given.
    ranges: the examples, as (file, first, number); two sources of one data set
      share those in the intersection of their ranges.
    num_bytes: of all examples of the splits that `split` is made of, 0 if
      unknown.
  """

  name: str
  config: str
  version: str
  split: str
  ranges: tuple[tuple[str, int, int], ...]
  num_bytes: int = 0


class Source(Protocol):
  """Random access to examples; the pipeline shuffles and batches them.

  Attributes:
    num_classes: number of classes.
    class_names: names in the data set, such as 'n01440764'.
    origin: where the examples are from.
  """

  num_classes: int
  class_names: tuple[str, ...]
  origin: Origin

  def __len__(self) -> int:
    """Returns the number of examples."""
    ...

  def __getitem__(self, index: int) -> Example:
    """Returns one example."""
    ...

  def stored_example(self, index: int) -> tuple[bytes, Any]:
    """Returns the bytes of an image as they are stored, and its label."""
    ...


class InMemorySource:
  """Decoded examples in memory.

  Attributes:
    stored: the source that they were read from, None if there is none.
  """

  def __init__(
    self,
    examples: Sequence[Example],
    class_names: Sequence[str],
    origin: Origin | None = None,
    stored: Source | None = None,
  ):
    """Keeps the examples.

    Args:
      examples: all of them.
      class_names: names in the data set.
      origin: where they are from; None if they are of no data set.
      stored: the source that they were read from, if there is one.
    """
    self._examples = examples
    self.stored = stored
    self.class_names = tuple(class_names)
    self.num_classes = len(self.class_names)
    self.origin = origin or Origin('', '', '', '', ())

  def __len__(self) -> int:
    return len(self._examples)

  def __getitem__(self, index: int) -> Example:
    return self._examples[index]

  def stored_example(self, index: int) -> tuple[bytes, Any]:
    """Returns the bytes of an image as they are stored, and its label."""
    if self.stored is not None:
      return self.stored.stored_example(index)
    example = self._examples[index]
    return example['image'].tobytes(), example['label']

  def stored_examples(self, indices: Sequence[int]) -> list[tuple[bytes, Any]]:
    """Returns several of them."""
    if self.stored is not None:
      return read_stored(self.stored, indices)
    return [self.stored_example(index) for index in indices]


def read_stored(
  source: Source, indices: Sequence[int]
) -> list[tuple[bytes, Any]]:
  """Returns what `stored_example` does of several indices.

  A source whose `stored_examples(indices)` reads them together is faster.
  """
  read_together = getattr(source, 'stored_examples', None)
  if read_together is not None:
    return read_together(indices)
  return [source.stored_example(index) for index in indices]


def iterate_stored(
  source: Source, indices: Iterable[int]
) -> Iterator[tuple[int, bytes, Any]]:
  """Yields index, bytes and label of stored examples, which it reads in parts.

  So few of them are in memory at once.
  """
  remaining = iter(indices)
  while part := list(itertools.islice(remaining, _PART)):
    for index, stored in zip(part, read_stored(source, part), strict=True):
      yield index, *stored
