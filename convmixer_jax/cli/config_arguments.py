"""The arguments `--config=FILE` and `--config.KEY=VALUE`, checked for errors.

absl and ml_collections would report most of these in many lines.
"""

import copy
import os
import re
from collections.abc import Sequence
from typing import Any

import ml_collections
from absl import flags

from convmixer_jax import config as config_lib
from convmixer_jax import config_files
from convmixer_jax.cli import run_config
from convmixer_jax.errors import UserError

_FLAG = '--config'
_OF_SEVERAL_TYPES = '--config.dataset.image_size'
_NEEDED = 'give a config file, such as configs/digits.py'


def resolve(argv: Sequence[str]) -> list[str]:
  """Returns the arguments, with the path of a file in each `--config`.

  `-name` becomes `--name`, which absl takes for the same. So do `--name VALUE`
  and `--name=VALUE`, but not for a key that takes values of several types.
  Without `--config`, a run in `--workdir` has the config.

  Raises:
    UserError: there is neither.
  """
  resolved: list[str] = []
  for argument in argv:
    if resolved and resolved[-1] == _OF_SEVERAL_TYPES:
      resolved[-1] += f'={argument}'
    else:
      is_short = re.match('-[A-Za-z]', argument)
      resolved.append(f'-{argument}' if is_short else argument)
  for i, argument in enumerate(resolved):
    name, equals, value = argument.partition('=')
    if equals and name == _FLAG:
      resolved[i] = f'{name}={config_files.find(value)}'
    elif i and resolved[i - 1] == _FLAG:
      resolved[i] = config_files.find(argument)
  if {'config', 'workdir'} <= set(flags.FLAGS):
    return [*resolved[:1], *run_config.add_config(resolved[1:])]
  return resolved


def check(arguments: Sequence[str]) -> dict[str, Any]:
  """Checks `--config` and its overrides.

  Args:
    arguments: of the command, from `resolve`.

  Returns:
    The config's leaves by dotted key, or {} without a config.

  Raises:
    UserError: the file or a key does not exist, or the file fails.
  """
  given = _find_config_arguments(arguments)
  if 'config' not in given:
    return {}
  config_file = given.pop('config')
  config = _load(config_file)
  path = config_file.partition(':')[0]
  if not isinstance(config, ml_collections.ConfigDict) or isinstance(
    config, ml_collections.FrozenConfigDict
  ):
    raise UserError(
      f'get_config() of --config={path} returns a {type(config).__name__}; '
      'return a ConfigDict, such as convmixer_jax.config.default_config()'
    )
  if 'config.model.name' in given:
    from convmixer_jax import models  # imports Flax; only some commands need it

    with config.unlocked():
      models.choose_network(config, given['config.model.name'])
  run_config.take_network(config, given)
  if 'config' in flags.FLAGS:
    flags.FLAGS['config'].parser = _Parsed(config)
  known = config_lib.flatten(config)
  for name in given:
    key = name.removeprefix('no').removeprefix('config.')
    if key not in known:
      raise UserError(_unknown_key(name, key, path, known))
  return known


def _find_config_arguments(arguments):
  """Returns the values by name, without dashes."""
  given = {}
  for i, argument in enumerate(arguments):
    if not argument.startswith((_FLAG, '--noconfig.')):
      continue
    name, equals, value = argument.removeprefix('--').partition('=')
    if not equals and i + 1 < len(arguments):
      value = arguments[i + 1]
    if name == 'config':
      if not equals and i + 1 == len(arguments):
        raise UserError(f'--config has no value; {_NEEDED}')
      if name in given:
        raise UserError('--config is given twice; give one config file')
    given[name] = value
  return given


def _unknown_key(name, key, path, known):
  """Returns the error of a key that the config does not have."""
  from convmixer_jax import models

  network = known.get('model.name', models.DEFAULT)
  if key.startswith('model.') and models.is_field_of_another(
    key.removeprefix('model.'), network
  ):
    return f'--{name} is not a field of {models.list_fields(network)}'
  if key in config_lib.SCHEMA:
    return (
      f'--{name}: {path} lacks this key; let its config start from '
      'convmixer_jax.config.default_config()'
    )
  missing = f'--{name}: there is no such key in {path}'
  if not known:
    return f'{missing}, whose config is empty'
  return f'{missing}; did you mean --config.{config_lib.nearest(key, known)}?'


class _Parsed(flags.ArgumentParser):
  """Gives the config that was loaded, to which absl applies the overrides."""

  def __init__(self, config):
    self._config = config

  def parse(self, argument):
    del argument
    config = copy.deepcopy(self._config)  # with the types of its placeholders
    config.lock()
    return config

  def flag_type(self):
    return 'config object'


def _load(config_file):
  """Returns what `get_config` of a file returns, or the config of a run."""
  if run_config.is_of_run(config_file):
    return run_config.load(config_file)
  path, colon, variant = config_file.partition(':')
  if not path:
    raise UserError(f'--config is empty; {_NEEDED}')
  if not os.path.isfile(path):
    raise UserError(
      f'--config={path} is not a file; give the path of one, or the name of '
      f'one that comes with the package: {", ".join(config_files.names())}'
    )
  if colon and not variant:
    raise UserError(
      f'--config={config_file}: no variant follows the colon; leave it out'
    )
  return config_files.call(path, variant)
