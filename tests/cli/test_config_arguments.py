"""The arguments --config and --config.KEY: files found, values parsed."""

import os
import pathlib

import commands
import pytest

from convmixer_jax import config_files
from convmixer_jax.cli import config_arguments
from convmixer_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = str(ROOT / 'configs' / 'digits.py')


@pytest.fixture
def directory(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.mark.parametrize(
  'name', ['digits', 'digits.py', 'configs/digits', 'configs/digits.py']
)
def test_packaged_configs_are_found_from_any_directory(directory, name):
  assert config_files.find(name) == DIGITS
  resolved = config_arguments.resolve(['x', f'--config={name}', '--a=b'])
  assert resolved == ['x', f'--config={DIGITS}', '--a=b']
  assert config_arguments.resolve(['x', '--config', name])[2] == DIGITS
  assert config_files.find('imagenet:768_32') == (
    f'{ROOT / "configs" / "imagenet.py"}:768_32'
  )


def test_files_of_the_working_directory_come_first(directory):
  (directory / 'digits.py').write_text('')
  assert config_files.find('digits') == 'digits.py'
  assert config_files.find('digits.py:small') == 'digits.py:small'
  assert config_files.find('nope') == 'nope'


def test_one_dash_is_as_good_as_two():
  assert config_arguments.resolve(['x', '-config=digits', '-1', '-a']) == [
    *('x', f'--config={DIGITS}', '-1', '--a')
  ]


def test_config_imports_modules_of_its_own_directory(directory, monkeypatch):
  monkeypatch.syspath_prepend(os.devnull)  # restores sys.path
  (directory / 'own').mkdir()
  (directory / 'own' / 'epochs_of_mine.py').write_text('NUMBER = 7')
  (directory / 'own' / 'config.py').write_text(
    'import epochs_of_mine\n'
    'from convmixer_jax.config import default_config\n'
    'from convmixer_jax.models import model_config\n'
    'def get_config():\n'
    '  config = default_config(model_config())\n'
    '  config.num_epochs = epochs_of_mine.NUMBER\n'
    '  return config\n'
  )
  known = config_arguments.check(['--config=own/config.py'])
  assert known['num_epochs'] == 7


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--config'], '--config has no value; give a config file'),
    (['--config=', '--workdir=w'], '--config is empty; give a config file'),
    (['--config=digits', '--config=cifar10'], '--config is given twice'),
    (['--config=digits:'], 'no variant follows the colon; leave it out'),
    (
      ['--config=digits', '--config.model.name=', '--workdir=w'],
      "config.model.name = '' is unknown",
    ),
  ],
)
def test_wrong_arguments_are_refused(arguments, message):
  with pytest.raises(UserError, match=message):
    config_arguments.check(config_arguments.resolve(arguments))


@pytest.mark.parametrize(
  ('body', 'flag', 'message'),
  [
    (
      'FrozenConfigDict({"seed": 1})',
      'seed',
      'returns a FrozenConfigDict; ',
    ),
    ('{"seed": 1}', 'seed', 'returns a dict; return a ConfigDict'),
    ('ConfigDict()', 'seed', 'lacks this key; let its config start from'),
    ('ConfigDict()', 'sed', 'no such key in .*, whose config is empty'),
  ],
)
def test_wrong_configs_are_refused(directory, body, flag, message):
  (directory / 'mine.py').write_text(
    'from ml_collections import ConfigDict, FrozenConfigDict\n'
    f'def get_config():\n  return {body}\n'
  )
  with pytest.raises(UserError, match=message):
    config_arguments.check(['--config=mine.py', f'--config.{flag}=3'])


@pytest.mark.parametrize(
  ('line', 'expected'),
  [
    ('--config.model.widht=3', 'did you mean --config.model.width?'),
    ('-config.batch_size=many', 'is not a whole number'),
    ('--workdri=x', 'Did you mean: workdir'),
    ('--flagfile=absent.txt', 'absent.txt'),
  ],
)
def test_flagfile_is_checked_like_the_command_line(directory, line, expected):
  flagfile = directory / 'flags.txt'
  flagfile.write_text(f'# mine\n--config=digits\n{line}\n--workdir=run\n')
  done = commands.run(
    [str(ROOT / 'train.py'), f'--flagfile={flagfile}'], directory=directory
  )
  assert done.returncode == 1
  (error,) = done.stderr.splitlines()
  assert error.startswith('error: ') and expected.lower() in error.lower()
  assert not (directory / 'run').exists()
