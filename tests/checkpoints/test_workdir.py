"""The directory of a run; what is refused in one is in test_loop.py."""

import pytest
from etils import epath

from convmixer_jax.checkpoints import workdir
from convmixer_jax.errors import UserError


def test_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
  path = epath.Path(tmp_path) / 'metrics.csv'
  workdir.write_whole(path, 'one')
  workdir.write_whole(path, b'two')

  class Killed(BaseException):
    pass

  def killed(*_):
    raise Killed

  monkeypatch.setattr(type(path), 'replace', killed)
  with pytest.raises(Killed):
    workdir.write_whole(path, 'three')
  assert path.read_text() == 'two'


def test_failed_write_is_reported_and_leaves_nothing(tmp_path):
  (tmp_path / 'config.json').mkdir()
  with pytest.raises(UserError, match='cannot be written to'):
    workdir.write_whole(epath.Path(tmp_path) / 'config.json', '{}')
  assert [path.name for path in tmp_path.iterdir()] == ['config.json']


def test_directory_of_a_process_killed_at_its_start_counts_as_new(
  config, tmp_path
):
  """Before there is a config, there is nothing to refuse."""
  (tmp_path / 'config.json.tmp').write_text('{"seed')
  workdir.check_workdir(epath.Path(tmp_path), config)
  workdir.describe_run(epath.Path(tmp_path), config, None, 'table')
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {'config.json', 'versions.json', 'parameters.txt'}


def test_a_run_may_lack_a_key_at_its_default_but_have_none_that_is_gone(
  config, tmp_path
):
  older = config.copy_and_resolve_references()
  del older.new_head
  workdir.describe_run(epath.Path(tmp_path), older, None, 'table')
  workdir.check_workdir(epath.Path(tmp_path), config)
  older.old_key = True
  workdir.describe_run(epath.Path(tmp_path), older, None, 'table')
  message = (
    r'a run with another config: old_key \(True -> missing\); give the old'
  )
  with pytest.raises(UserError, match=message) as error:
    workdir.check_workdir(epath.Path(tmp_path), config)
  assert '\n' not in str(error.value)


def test_a_run_without_the_name_of_its_network_is_refused(config, tmp_path):
  del config.model.name
  workdir.describe_run(epath.Path(tmp_path), config, None, 'table')
  with pytest.raises(
    UserError, match=r'config of a run \(it has no model.name'
  ):
    workdir.read_config(epath.Path(tmp_path))


DATA = {
  'name': 'pets',
  'config': '',
  'version': '1.0.0',
  'class_names': ['ant', 'bee', 'cat'],
  'splits': {'train': {'num_examples': 96, 'content': 'ab'}},
}


def start(path, config, data=DATA):
  """Writes what a run on `data` writes at its start."""
  directory = epath.Path(path)
  names = None if data is None else data['class_names']
  workdir.describe_run(directory, config, names, 'table', data)
  return directory


@pytest.mark.parametrize(
  ('changes', 'changed'),
  [
    ({'name': 'dogs'}, r'name \(pets -> dogs\)'),
    ({'config': 'small'}, r'config \(None -> small\)'),
    ({'version': '2.0.0'}, r'version \(1.0.0 -> 2.0.0\)'),
    (
      {'class_names': ['cat', 'ant', 'bee']},
      r"order of the classes \(class 0 is 'ant' -> 'cat'\)",
    ),
    ({'class_names': ['ant', 'bee']}, r'number of classes \(3 -> 2\)'),
    (
      {'splits': {'train': {'num_examples': 95, 'content': 'cd'}}},
      r'number of examples in train \(96 -> 95\)',
    ),
    (
      {'splits': {'train': {'num_examples': 96, 'content': 'cd'}}},
      'images or labels of train',
    ),
  ],
)
def test_run_on_other_data_is_refused_with_what_differs(
  config, tmp_path, changes, changed
):
  directory = start(tmp_path, config)
  assert workdir.check_data(directory, DATA)
  with pytest.raises(UserError, match=f'run on other data; changed: {changed}'):
    workdir.check_data(directory, DATA | changes)


def test_classes_and_data_of_a_run_are_never_overwritten(config, tmp_path):
  directory = start(tmp_path, config)
  start(tmp_path, config, DATA | {'class_names': ['cat', 'ant', 'bee']})
  assert workdir.read_data(directory) == DATA
  assert workdir.read_class_names(directory) == ('ant', 'bee', 'cat')


def test_older_run_is_checked_by_the_names_of_its_classes(config, tmp_path):
  directory = start(tmp_path, config)
  (tmp_path / 'data.json').unlink()
  assert not workdir.check_data(directory, DATA)
  with pytest.raises(UserError, match='order of the classes') as error:
    workdir.check_data(directory, DATA | {'class_names': ['bee', 'ant', 'cat']})
  assert 'remove data.json' not in str(error.value)


def test_version_may_be_added_to_the_name_of_recorded_data(config, tmp_path):
  config.dataset.name = 'pets'
  directory = start(tmp_path, config)
  config.dataset.name = 'pets:1.0.0'
  workdir.check_workdir(directory, config)
  (tmp_path / 'data.json').unlink()
  with pytest.raises(UserError, match=r'another config: dataset\.name'):
    workdir.check_workdir(directory, config)


@pytest.mark.parametrize('content', ['{', '[]', '{"name": "pets"}'])
def test_data_file_that_is_none_is_refused_in_one_line(
  config, tmp_path, content
):
  directory = start(tmp_path, config)
  (tmp_path / 'data.json').write_text(content)
  with pytest.raises(UserError, match='does not describe the data of') as error:
    workdir.check_data(directory, DATA)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('dataset.image_size', 'x'),
    ('dataset.image_size', -1),
    ('dataset.mean', (float('nan'), 0.0, 0.0)),
    ('dataset.std', (1.0, 0.0, 1.0)),
    ('augment.eval_crop_fraction', float('inf')),
    ('dtype', 'int8'),
  ],
)
def test_a_run_with_values_that_cannot_be_is_refused(
  key, value, config, tmp_path
):
  path = epath.Path(tmp_path)
  workdir.describe_run(path, config, None, 'table')
  with config.unlocked(), config.ignore_type():
    config.update_from_flattened_dict({key: value})
  workdir.write_whole(path / 'config.json', workdir.config_to_json(config))
  with pytest.raises(UserError, match=f'config of a run .config.{key} = '):
    workdir.read_config(path)


@pytest.mark.parametrize('text', ['[' * 10**5, '{"a": 1}', '"abc"', '[1]', ''])
def test_labels_that_are_not_names_are_refused(text, tmp_path):
  (tmp_path / 'labels.json').write_text(text)
  with pytest.raises(UserError, match=r'labels\.json is not a list of names'):
    workdir.read_class_names(epath.Path(tmp_path))


@pytest.mark.parametrize('name', ['config.json', 'labels.json'])
def test_directories_in_place_of_files_are_refused(name, tmp_path):
  (tmp_path / name).mkdir()
  with pytest.raises(UserError, match=name):
    if name == 'config.json':
      workdir.read_config(epath.Path(tmp_path))
    else:
      workdir.read_class_names(epath.Path(tmp_path))
