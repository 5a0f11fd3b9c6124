"""The config of a run in place of --config, and its network to start from."""

import pytest
from etils import epath

from configs import digits, finetune
from convmixer_jax import models
from convmixer_jax.checkpoints import workdir
from convmixer_jax.cli import config_arguments, run_config
from convmixer_jax.errors import UserError


@pytest.fixture
def run(tmp_path):
  """A run directory with a config alone."""
  config = digits.get_config()
  config.model.width, config.seed = 24, 7
  directory = epath.Path(tmp_path) / 'run'
  workdir.describe_run(directory, config, None, 'table')
  return directory


def test_workdir_alone_names_the_config_of_its_run(run):
  with_config = [f'--config={run}/config.json', f'--workdir={run}']
  assert run_config.add_config([f'--workdir={run}']) == with_config
  assert run_config.add_config(['--workdir', str(run)])[0] == with_config[0]
  known = config_arguments.check([*with_config, '--config.num_epochs=99'])
  assert known['model.width'] == 24 and known['seed'] == 7


def test_config_that_is_given_stays(run):
  arguments = ['--config=configs/digits.py', f'--workdir={run}']
  assert run_config.add_config(arguments) == arguments
  assert run_config.add_config(['--debug']) == ['--debug']


def test_workdir_without_a_run_needs_a_config(tmp_path):
  with pytest.raises(UserError, match='holds no run that has one; give a conf'):
    run_config.add_config([f'--workdir={tmp_path}'])


def test_config_of_a_run_is_that_which_it_was_started_with(run):
  config = digits.get_config()
  config.model.width, config.seed = 24, 7
  loaded = run_config.load(f'{run}/config.json')
  assert loaded.to_dict() == config.to_dict()
  workdir.check_workdir(run, loaded)  # so it resumes


def test_config_of_another_version_is_refused_by_its_key(run):
  text = (run / 'config.json').read_text()
  (run / 'config.json').write_text(text.replace('"seed"', '"sead"'))
  with pytest.raises(UserError, match='has sead, which this version does not'):
    run_config.load(f'{run}/config.json')


def test_network_of_the_run_to_start_from_is_taken(run, capsys):
  config = finetune.get_config()
  run_config.take_network(config, {'config.init_from': str(run)})
  theirs = digits.get_config().model
  architecture = models.find_architecture('convmixer')
  for key in architecture.names('network'):
    assert config.model[key] == (24 if key == 'width' else theirs[key])
  line = capsys.readouterr().out
  assert line.startswith(f'config.model as in {run}: ') and 'width = 24' in line


def test_network_of_another_architecture_is_taken_whole(run):
  config = digits.get_config()
  config.model = models.model_config('vit')
  run_config.take_network(config, {'config.init_from': str(run)})
  assert config.model.name == 'convmixer' and config.model.width == 24


def test_network_that_the_user_names_stays(run):
  config = finetune.get_config()
  before = config.model.to_dict()
  given = {'config.init_from': str(run), 'config.model.name': 'vit'}
  run_config.take_network(config, given)
  run_config.take_network(config, {'config.init_from': 'nothing/there'})
  assert config.model.to_dict() == before
