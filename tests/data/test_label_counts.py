"""Notes on the classes of splits with several labels an image, and memory."""

import pytest

from convmixer_jax import limits
from convmixer_jax.data import label_counts, labels
from convmixer_jax.data.examples import InMemorySource, Origin
from convmixer_jax.errors import UserError


def in_memory(*label_lists, split):
  return InMemorySource(
    [
      {'image': None, 'label': labels.multi_hot(several, 3)}
      for several in label_lists
    ],
    'abc',
    Origin('x', '', '', split, ()),
  )


def test_images_and_classes_without_each_other_are_named():
  train = in_memory([0, 1], [], [1], split='train')
  held_out = in_memory([2], [0, 1], split='test')
  lines = label_counts.notes(train, held_out)
  assert lines == [
    "Note: 1 images of 'train' have no class",
    "Note: 1 of 3 classes have no image in 'train' (c): they cannot be learned",
  ]
  with pytest.raises(
    UserError, match="none of the 2 images of 'test' has a cl"
  ):
    label_counts.notes(train, in_memory([], [], split='test'))


def test_more_outputs_than_memory_are_refused_before_training(monkeypatch):
  source = in_memory([0], [1], split='test')
  label_counts.require_memory(source)
  monkeypatch.setattr(limits, 'memory_bytes', lambda: 4 * 29)
  with pytest.raises(UserError, match=r"a slice, such as 'test\[:10%\]'"):
    label_counts.require_memory(source)
