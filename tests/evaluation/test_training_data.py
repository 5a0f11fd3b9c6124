"""Evaluation on the set of training: changed since, or partly trained on."""

import dataclasses
import json

import pytest
import tiny_sets

from convmixer_jax.cli import convert
from convmixer_jax.data import identity, sources
from convmixer_jax.errors import UserError
from convmixer_jax.evaluation import training_data
from convmixer_jax.pretrained.load import load

NAMES = ('ant', 'bee', 'cat')


@pytest.fixture
def dataset(config, tmp_path):
  tiny_sets.write_set(tmp_path, class_names=NAMES)
  config.dataset.name, config.dataset.data_dir = 'tiny', str(tmp_path)
  return config.dataset


@pytest.fixture
def trained(trained_run, dataset):
  """A network that was trained on the set as it is."""
  source = sources.create_source(dataset, 'train')
  return dataclasses.replace(load(trained_run), data=identity.identify(source))


def test_set_that_is_unchanged_is_evaluated(trained, dataset):
  for split in ('train', 'train[:3]'):
    source = sources.create_source(dataset, split)
    for is_default in (True, False):
      found = training_data.check_same_data(
        trained, source, is_default=is_default
      )
      assert found == []


def test_set_of_the_run_that_was_changed_is_refused_unless_it_is_named(
  trained, dataset, tmp_path
):
  tiny_sets.write_set(tmp_path, class_names=('cat', 'ant', 'bee'))
  source = sources.create_source(dataset, 'train')
  with pytest.raises(
    UserError, match=r'was changed after training: order of .*--dataset=tiny to'
  ):
    training_data.check_same_data(trained, source, is_default=True)
  assert training_data.check_same_data(trained, source, is_default=False) == [
    "order of the classes (class 0 is 'ant' -> 'cat')"
  ]


def test_other_sets_are_not_compared(trained, config):
  config.dataset.name = 'digits'
  source = sources.create_source(config.dataset, 'test')
  assert (
    training_data.check_same_data(trained, source, is_default=False) is None
  )


def test_images_of_training_are_warned_of(dataset):
  source = sources.create_source(dataset, 'train[4:]')
  warning = training_data.overlap_warning(source, dataset, 'train[:6]')
  assert warning.startswith("WARNING: 2 of the 4 examples of 'train[4:]' are")
  assert training_data.overlap_warning(source, dataset, 'train[:4]') is None
  assert training_data.overlap_warning(source, dataset, 'gone') is None


def test_identity_of_data_travels_with_converted_weights(trained_run, tmp_path):
  data = json.loads((trained_run / 'data.json').read_text())
  assert data['name'] == 'digits' and len(data['class_names']) == 10
  file, directory = tmp_path / 'x.safetensors', tmp_path / 'run'
  convert.convert(str(trained_run), str(file))
  convert.convert(str(file), str(directory))
  for source in (trained_run, file, directory):
    assert load(source).data == data
