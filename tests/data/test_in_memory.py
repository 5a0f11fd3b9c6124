"""Which sets are kept in memory: the limit holds for all decoded bytes."""

import numpy as np
import pytest
from tiny_sets import encode

from convmixer_jax.data import in_memory
from convmixer_jax.data.examples import InMemorySource, Origin
from convmixer_jax.errors import UserError


class Source:
  """Black images of these sides; counts the bytes that it decodes."""

  class_names = ('a', 'b')
  num_classes = 2
  origin = Origin('photos', '', '', 'train', ())

  def __init__(self, sides):
    self._sides = sides
    self.decoded = 0

  def __len__(self):
    return len(self._sides)

  def stored_example(self, index):
    side = self._sides[index]
    return encode(np.zeros((side, side, 3), np.uint8)), 0

  def decode(self, index, data, label):
    side = self._sides[index]
    image = np.zeros((side, side, 3), np.uint8)
    self.decoded += image.nbytes
    return {'image': image, 'label': label}


def test_first_image_does_not_decide(caplog):
  limit = 2**16
  source = Source([2] + [100] * 63)
  assert in_memory.load_if_small(source, limit) is source
  assert source.decoded <= limit
  small = Source([100] + [2] * 63)
  assert isinstance(in_memory.load_if_small(small, limit), InMemorySource)
  assert not caplog.records


def test_set_that_turns_out_too_large_is_read_from_disk_with_a_line(caplog):
  sides = np.full(640, 2)
  sample = np.unique(np.linspace(0, 639, 64).astype(int))
  sides[np.setdiff1d(np.arange(640), sample)] = 60  # none is in the sample
  source = Source(sides.tolist())
  limit = 2**19  # of 6 MB
  assert in_memory.load_if_small(source, limit) is source
  assert 0 < source.decoded <= limit
  (record,) = caplog.records
  assert record.getMessage() == (
    'photos train takes more than 0.5 MiB once decoded '
    '(config.dataset.cache_mib, and at most a quarter of the memory); its '
    'images are read from disk'
  )


def test_examples_in_memory_keep_their_order():
  source = Source(list(range(2, 50)))
  loaded = in_memory.load_if_small(source, 2**24)
  assert isinstance(loaded, InMemorySource) and len(loaded) == 48
  for index in range(48):
    assert loaded[index]['image'].shape == (index + 2, index + 2, 3)
    assert loaded.stored_example(index) == source.stored_example(index)
  assert loaded.origin == source.origin


def test_images_are_read_together_by_a_source_that_can():
  class Together(Source):
    def stored_example(self, index):
      raise AssertionError

    def stored_examples(self, indices):
      return [Source.stored_example(self, index) for index in indices]

  loaded = in_memory.load_if_small(Together(list(range(2, 150))), 2**24)
  assert [loaded[i]['image'].shape[0] for i in range(148)] == list(
    range(2, 150)
  )


def test_no_memory_reads_nothing():
  class Unread(Source):
    def stored_example(self, index):
      raise AssertionError

  source = Unread([2, 2])
  assert in_memory.load_if_small(source, 0) is source


def test_image_that_cannot_be_decoded_is_reported():
  class Damaged(Source):
    def decode(self, index, data, label):
      raise UserError('cannot decode image 1')

  with pytest.raises(UserError, match='cannot decode image 1'):
    in_memory.load_if_small(Damaged([2, 2]), 2**20)
