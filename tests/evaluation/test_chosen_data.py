"""What an evaluation reads: by name, by the path of a folder, or the run's."""

import ml_collections
import pytest
import trees

from convmixer_jax.errors import UserError
from convmixer_jax.evaluation.chosen_data import choose_data


def choose(run=None, name=None, data_dir=None, split=None):
  dataset = ml_collections.ConfigDict(
    {'name': '', 'data_dir': '', 'exif_rotate': True}
  )
  config = None if run is None else ml_collections.ConfigDict({'dataset': run})
  chosen = choose_data(
    dataset, config, name=name, data_dir=data_dir, split=split
  )
  return (dataset.name, dataset.data_dir, *chosen)


@pytest.fixture
def photos(tmp_path):
  return str(trees.write_tree(tmp_path / 'photos', {'a': 2, 'b': 2}))


@pytest.fixture
def run(photos):
  return {'name': 'folder', 'data_dir': photos, 'eval_split': 'test'}


def test_a_run_is_evaluated_on_its_own_split(run, photos):
  own = ('folder', photos, 'test', True)
  assert choose(run) == own
  assert choose(run, data_dir='moved') == ('folder', 'moved', 'test', True)
  assert choose(run, name=photos) == choose(run, 'folder', photos) == own


def test_a_directory_is_a_folder_of_images(run, photos, tmp_path):
  expected = ('folder', photos, 'all', False)
  assert choose(None, name=photos) == expected
  assert choose({'name': 'digits'}, name=photos) == expected
  other = str(trees.write_tree(tmp_path / 'other', {'val/a': 1, 'train/a': 1}))
  assert choose(run, name=other) == ('folder', other, 'validation', False)


def test_rotation_is_that_of_training(photos):
  dataset = ml_collections.ConfigDict(
    {'name': '', 'data_dir': '', 'exif_rotate': True}
  )
  run = {'name': 'digits', 'eval_split': 'test', 'exif_rotate': False}
  config = ml_collections.ConfigDict({'dataset': run})
  choose_data(dataset, config, name=photos, data_dir=None, split=None)
  assert dataset.exif_rotate is False


def test_weights_need_a_name():
  with pytest.raises(UserError, match='--dataset=NAME is needed'):
    choose(None)
