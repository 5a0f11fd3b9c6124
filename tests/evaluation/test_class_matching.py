"""Which output of a network stands for each class of a data set."""

import numpy as np
import pytest

from convmixer_jax.data.class_names import imagenet_synsets
from convmixer_jax.errors import UserError
from convmixer_jax.evaluation import protocols

K = 1000


def test_classes_are_matched_by_name():
  synsets = imagenet_synsets()
  labels = synsets[500], synsets[3]
  classes = protocols.match_classes(synsets, K, labels)
  np.testing.assert_array_equal(classes.outputs, [500, 3])
  np.testing.assert_array_equal(classes.label_to_index, [0, 1])
  words = ['cat', 'tiger shark', 'tench']  # what a network may call them
  classes = protocols.match_classes(words, 3, (synsets[0], synsets[3]))
  np.testing.assert_array_equal(classes.outputs, [2, 1])
  assert classes.note == ''


def test_classes_in_another_order_are_matched_by_name_with_a_note():
  classes = protocols.match_classes('abc', 3, 'cab')
  np.testing.assert_array_equal(classes.outputs, [2, 0, 1])
  assert classes.note.startswith('The classes are in another order than in')
  assert protocols.match_classes('abc', 3, 'abc').note == ''
  np.testing.assert_array_equal(
    protocols.match_classes('abc', 3, 'ca').outputs, [2, 0]
  )


def test_class_that_words_lack_is_named():
  labels = imagenet_synsets()[:3]
  with pytest.raises(UserError, match=r"1 of the 3 .* 'great white shark'"):
    protocols.match_classes(['tench', 'goldfish', 'cat'], 3, labels)


@pytest.mark.parametrize(
  ('known', 'labels', 'why'),
  [
    (None, 'ab', "the names of the network's classes are unknown"),
    ('01', 'ab', 'the network has only numbers'),
    ('ab', '01', 'the data set has only numbers'),
    ('01', '01', 'the network has only numbers'),
  ],
)
def test_classes_without_names_are_matched_by_number_with_a_warning(
  known, labels, why
):
  classes = protocols.match_classes(known, 2, labels)
  np.testing.assert_array_equal(classes.outputs, [0, 1])
  assert classes.note.startswith(f'WARNING: {why}')
  assert 'be checked' in classes.note


@pytest.mark.parametrize(
  ('known', 'num_outputs', 'message'),
  [
    (
      ('cat', 'dog'),
      2,
      "not have 2 of the 2 .* 'tench'; it has 'cat', 'dog'",
    ),
    (
      None,
      10,
      "has 10 classes and the data set 2, and the names of the network's cl",
    ),
    (
      tuple('0123456789'),
      10,
      'has 10 classes and the data set 2, and the network has only numbers',
    ),
    (('tench', 'tench', 'goldfish'), 3, "has 2 classes called 'tench'"),
  ],
)
def test_network_of_other_classes_is_refused(known, num_outputs, message):
  with pytest.raises(UserError, match=message) as error:
    protocols.match_classes(known, num_outputs, imagenet_synsets()[:2])
  assert '\n' not in str(error.value)
