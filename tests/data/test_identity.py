"""The identity of data: what belongs to it, and how differences are named."""

import json
import shutil

import numpy as np
import pytest
import tiny_sets

from convmixer_jax.data import identity, sources
from convmixer_jax.errors import UserError

NAMES = ('ant', 'bee', 'cat')


def open_split(config, data_dir, split='train'):
  config.dataset.name, config.dataset.data_dir = 'tiny', str(data_dir)
  return sources.create_source(config.dataset, split)


def identity_of(config, data_dir):
  return identity.identify(open_split(config, data_dir))


def with_changed(seed, label):
  """Returns the examples with another number 5: noise of seed 5, label 2."""
  changed = {5: (tiny_sets.encode(tiny_sets.noise(seed)), label)}
  return tiny_sets.examples(changed=changed)


@pytest.fixture
def recorded(config, tmp_path):
  tiny_sets.write_set(tmp_path / 'data', class_names=NAMES)
  return json.loads(json.dumps(identity_of(config, tmp_path / 'data')))


def test_identity_has_version_classes_and_number_of_examples(recorded):
  assert (recorded['name'], recorded['version']) == ('tiny', '1.0.0')
  assert recorded['class_names'] == list(NAMES)
  assert recorded['splits']['train']['num_examples'] == 8
  assert identity.check(recorded) == recorded


def test_copied_data_and_another_cache_have_the_same_identity(
  recorded, config, tmp_path
):
  shutil.copytree(tmp_path / 'data', tmp_path / 'copy')
  shutil.rmtree(tmp_path / 'data')
  config.dataset.cache_mib = 0
  again = identity_of(config, tmp_path / 'copy')
  assert again == recorded
  assert identity.differences(recorded, again) == []


@pytest.mark.parametrize(
  ('records', 'names', 'changed'),
  [
    (
      None,
      ('cat', 'ant', 'bee'),
      ["order of the classes (class 0 is 'ant' -> 'cat')"],
    ),
    (None, ('ant', 'bee', 'cow'), ["classes (such as 'cat' -> 'cow')"]),
    (
      tiny_sets.examples(7),
      NAMES,
      ['number of examples in train (8 -> 7)'],
    ),
    (
      with_changed(9, 2),
      NAMES,
      ['images or labels of train'],
    ),
    (
      with_changed(5, 1),
      NAMES,
      ['images or labels of train'],
    ),
  ],
)
def test_differences_are_named(
  recorded, config, tmp_path, records, names, changed
):
  tiny_sets.write_set(tmp_path / 'data', records, class_names=names)
  found = identity_of(config, tmp_path / 'data')
  assert identity.differences(recorded, found) == changed


def test_another_version_is_named(recorded, config, tmp_path):
  directory = tmp_path / 'data' / 'tiny'
  info = directory / '1.0.0' / 'dataset_info.json'
  info.write_text(info.read_text().replace('1.0.0', '2.0.0'))
  (directory / '1.0.0').rename(directory / '2.0.0')
  found = identity_of(config, tmp_path / 'data')
  assert identity.differences(recorded, found) == ['version (1.0.0 -> 2.0.0)']


def test_large_sets_are_hashed_by_evenly_spaced_examples(monkeypatch):
  read = []

  class Source:
    class_names = ('a', 'b')
    origin = sources.Origin('large', '', '1.0.0', 'train', (), 123)

    def __len__(self):
      return 1_281_167

    def __getitem__(self, index):
      return {'image': np.zeros((2, 2, 3), np.uint8), 'label': 0}

    def stored_example(self, index):
      read.append(index)
      return bytes(200_000), 0

  first = identity.identify(Source())
  assert 64 <= len(read) < 1000 and len(set(read)) == len(read)
  gaps = np.diff(np.sort(read))
  assert gaps.max() < 4 * gaps.mean()
  other = sources.Origin('large', '', '1.0.0', 'train', (), 124)
  monkeypatch.setattr(Source, 'origin', other)
  assert identity.differences(first, identity.identify(Source())) == [
    'images or labels of train'
  ]


def test_wrong_label_is_refused_by_the_identity_of_a_set_on_disk(
  config, tmp_path
):
  bad = {7: (tiny_sets.encode(tiny_sets.noise()), -1)}
  tiny_sets.write_set(tmp_path, tiny_sets.examples(changed=bad))
  config.dataset.cache_mib = 0
  with pytest.raises(UserError, match='label of image 7 of tiny train is -1'):
    identity_of(config, tmp_path)


@pytest.mark.parametrize(
  ('train', 'evaluated', 'shared'),
  [
    ('train[:6]', 'train[6:]', None),
    ('train[:6]', 'train[4:]', "2 of the 4 examples of 'train[4:]'"),
    ('train[:2]+train[6:]', 'train[1:7]', '2 of the 6 examples'),
    ('train', 'train', '8 of the 8 examples'),
  ],
)
def test_examples_of_two_splits_are_warned_of(
  config, tmp_path, train, evaluated, shared
):
  tiny_sets.write_set(tmp_path)
  warning = identity.overlap_warning(
    open_split(config, tmp_path, train), open_split(config, tmp_path, evaluated)
  )
  if shared is None:
    assert warning is None
  else:
    assert warning.startswith(f'WARNING: {shared}')


def test_the_same_split_of_digits_is_warned_of(config):
  train, test = (
    sources.create_source(config.dataset, split) for split in ('train', 'test')
  )
  assert identity.overlap_warning(train, test) is None
  assert '355 of the 355' in identity.overlap_warning(test, test)


@pytest.mark.parametrize(
  'content',
  [
    [],
    {'name': 'tiny'},
    {'splits': []},
    {
      'name': 'tiny',
      'config': '',
      'version': '',
      'class_names': [],
      'splits': {'train': 3},
    },
  ],
)
def test_other_json_is_no_identity(content):
  with pytest.raises(ValueError, match=r'is missing or not|not a JSON object'):
    identity.check(content)
