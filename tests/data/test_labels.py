"""Several labels an image, from TFDS sets."""

import numpy as np
import pytest
import shapes
import tiny_sets

from convmixer_jax.data import sources
from convmixer_jax.errors import UserError

SEQUENCE = tiny_sets.sequence_feature(tiny_sets.LABEL)


def images(*label_lists):
  return [
    (tiny_sets.encode(tiny_sets.noise(i)), list(several))
    for i, several in enumerate(label_lists)
  ]


def open_set(data_dir, multi_label=True, cache_mib=0):
  config = sources.ml_collections.ConfigDict(
    {
      'name': 'tiny',
      'data_dir': str(data_dir),
      'cache_mib': cache_mib,
      'multi_label': multi_label,
    }
  )
  return sources.create_source(config, 'train')


@pytest.mark.parametrize('cache_mib', [0, 16])
def test_sequences_of_classes_become_multi_hot(tmp_path, cache_mib):
  tiny_sets.write_set(
    tmp_path, images([2, 0], [], [1]), ('a', 'b', 'c'), label=SEQUENCE
  )
  source = open_set(tmp_path, cache_mib=cache_mib)
  assert source.class_names == ('a', 'b', 'c')
  found = np.stack([source[i]['label'] for i in range(3)])
  np.testing.assert_array_equal(found, [[1, 0, 1], [0, 0, 0], [0, 1, 0]])
  assert found.dtype == np.int32
  assert [list(source.stored_example(i)[1]) for i in range(3)] == [
    [0, 2],
    [],
    [1],
  ]


def test_arrays_of_0_and_1_are_read_too(tmp_path):
  shapes.write_set(tmp_path / 'sequences', {'train': 9})
  shapes.write_set(tmp_path / 'arrays', {'train': 9}, multi_hot=True)
  found = []
  for kind in ('sequences', 'arrays'):
    source = sources.TfdsSource(
      'shapes', 'train', str(tmp_path / kind), is_multi_label=True
    )
    found.append([source[i]['label'] for i in range(9)])
  np.testing.assert_array_equal(*found)
  assert source.class_names == ('0', '1', '2')  # an array has no names


@pytest.mark.parametrize(
  ('label', 'feature', 'multi_label', 'message'),
  [
    (
      [0, 3],
      SEQUENCE,
      True,
      r'label of image 0 .* is \[0, 3\], not from 0 to 2',
    ),
    ([-1], SEQUENCE, True, r'is \[-1\], not from 0 to 2'),
    ([1, 2, 1], SEQUENCE, True, 'labels of image 0 .* have 1 twice'),
    (
      [0, 2, 0],
      tiny_sets.tensor_feature('int64', 3),
      True,
      'not 0 or 1 for ea',
    ),
    (
      [1],
      tiny_sets.LABEL,
      True,
      'is one class for an image, .* set it to False',
    ),
    ([1], SEQUENCE, False, 'train with config.dataset.multi_label = True'),
    (
      [1],
      tiny_sets.tensor_feature('int64', 1),
      False,
      'not the class of the im',
    ),
  ],
)
def test_wrong_labels_are_refused_in_one_line(
  tmp_path, label, feature, multi_label, message
):
  tiny_sets.write_set(tmp_path, images(label), label=feature)
  with pytest.raises(UserError, match=message) as error:
    open_set(tmp_path, multi_label)[0]
  assert '\n' not in str(error.value)
