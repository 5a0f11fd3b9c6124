"""Sizes that a config leaves to the data, and runs that are resumed."""

import pytest
import trees

from configs import folder
from convmixer_jax import config as config_lib
from convmixer_jax.data.folders.source import FolderSource
from convmixer_jax.errors import UserError
from convmixer_jax.files import absolute_path
from convmixer_jax.pretrained import hub
from convmixer_jax.training import from_data, setup
from convmixer_jax.training.validate import validate


@pytest.fixture
def photos(tmp_path):
  return str(trees.write_tree(tmp_path / 'photos', {'a': 20, 'b': 20}))


@pytest.fixture
def config(photos):
  config = folder.get_config('scratch')
  config.dataset.data_dir = photos
  return config


@pytest.mark.parametrize(
  ('num_images', 'unit', 'expected'),
  [(5, 1, 5), (36, 1, 8), (360, 1, 32), (10**6, 1, 64), (36, 6, 6), (3, 4, 4)],
)
def test_batch_fits_the_number_of_images(num_images, unit, expected):
  assert from_data.choose_batch_size(num_images, unit) == expected


@pytest.mark.parametrize(
  ('side', 'patch_size', 'expected'),
  [(8, 14, 112), (300, 14, 224), (150, 14, 140), (150, 7, 147), (9, 1, 9)],
)
def test_image_size_is_a_number_of_patches_near_that_of_the_images(
  tmp_path, side, patch_size, expected
):
  trees.write_tree(tmp_path, {'a': 0, 'b': 1})
  (tmp_path / 'a' / '1.png').write_bytes(trees.encode(size=side))
  (tmp_path / 'b' / '000.png').write_bytes(trees.encode(size=side))
  source = FolderSource(str(tmp_path), 'all')
  assert from_data.choose_image_size(source, patch_size) == expected


def test_sizes_that_are_given_stay(config, tmp_path):
  config.batch_size, config.dataset.image_size = 3, 28
  assert from_data.complete(config) is config


def test_sizes_left_to_the_data_are_filled_in(config, capsys):
  completed = from_data.complete(config)
  validate(completed)
  assert (completed.batch_size, completed.dataset.image_size) == (8, 112)
  assert (config.batch_size, config.dataset.image_size) == (0, 0)
  said = capsys.readouterr().err
  assert 'config.batch_size = 8, config.dataset.image_size = 112, by' in said


def test_resumed_run_keeps_its_sizes(config, photos, tmp_path):
  run = absolute_path(str(tmp_path / 'run'))
  run.mkdir()
  recorded = config.copy_and_resolve_references()
  recorded.batch_size, recorded.dataset.image_size = 4, 28
  (run / 'config.json').write_text(recorded.to_json_best_effort())
  trees.write_tree(photos, {'a': 300}, seed=50)
  completed = from_data.complete(config, run)
  assert (completed.batch_size, completed.dataset.image_size) == (4, 28)


def test_other_keys_are_checked_first(config):
  config.learning_rate = -1.0
  config.dataset.data_dir = 'nowhere'
  with pytest.raises(UserError, match='learning_rate'):
    from_data.complete(config)


def test_set_up_uses_the_sizes(config, tmp_path):
  found = setup.set_up(config, str(tmp_path / 'run'))
  assert found.config.dataset.image_size == 112
  assert found.steps_per_epoch == 4


@pytest.mark.parametrize('is_available', [True, False])
def test_released_weights_are_taken_where_they_can_be_had(
  monkeypatch, capsys, is_available
):
  monkeypatch.setattr(hub, 'is_available', lambda source: is_available)
  config = folder.get_config()
  assert bool(config.init_from) == config.new_head == is_available
  assert ('trained from scratch' in capsys.readouterr().err) != is_available
  config.dataset.image_size, config.batch_size = 224, 32
  validate(config)


def test_unknown_variant_is_refused():
  with pytest.raises(UserError, match="no variant 'large'; there are 1536_20"):
    folder.get_config('large')


@pytest.mark.parametrize('variant', ['768_32', 'scratch'])
def test_variants_have_all_keys(variant):
  config = folder.get_config(variant)
  assert set(config_lib.flatten(config)) >= set(config_lib.SCHEMA)
