"""The config of a run, instead of a config file or of parts of it."""

from collections.abc import Mapping, Sequence

import ml_collections

from convmixer_jax import config as config_lib
from convmixer_jax import files
from convmixer_jax.bucket_access import check_access
from convmixer_jax.errors import UserError

FILE = 'config.json'


def add_config(arguments: Sequence[str]) -> list[str]:
  """Returns the arguments, with `--config=RUN/config.json` if there is none.

  Args:
    arguments: of `train`, where `--workdir` names the run.

  Raises:
    UserError: there is neither a config nor a run.
  """
  workdir = None
  for i, argument in enumerate(arguments):
    name, equals, value = argument.partition('=')
    if name == '--config':
      return list(arguments)
    if name == '--workdir':
      workdir = value if equals else ''.join(arguments[i + 1 : i + 2])
  if not workdir:
    return list(arguments)
  path = files.absolute_path(workdir) / FILE
  check_access(path)
  if not path.exists():
    raise UserError(
      f'--config is missing, and --workdir={workdir} holds no run that has '
      'one; give a config file, such as configs/digits.py'
    )
  return [f'--config={path}', *arguments]


def is_of_run(config_file: str) -> bool:
  """Returns whether the value of `--config` is the config of a run."""
  return config_file.rpartition('/')[2] == FILE


def load(config_file: str) -> ml_collections.ConfigDict:
  """Returns the config of a run; a key that it lacks has its default.

  Args:
    config_file: path of its config.json.

  Raises:
    UserError: it is not one.
  """
  from convmixer_jax import models
  from convmixer_jax.checkpoints import workdir

  recorded = workdir.read_config(files.absolute_path(config_file).parent)
  name = recorded.model.name
  config = config_lib.default_config(models.model_config(name))
  known = config_lib.flatten(config)
  values = config_lib.flatten(recorded)
  for key in values:
    if key not in known:
      raise UserError(
        f'{config_file} has {key}, which this version does not know; resume '
        'the run with the version in its versions.json'
      )
  try:
    config.update_from_flattened_dict(values)
  except (TypeError, ValueError) as error:
    raise UserError(
      f'{config_file} has a value of the wrong type ({error}); restore the one '
      'that train.py wrote'
    ) from error
  return config


def take_network(
  config: ml_collections.ConfigDict, given: Mapping[str, str]
) -> None:
  """Sets the network to that of the run in `config.init_from`; says so.

  Args:
    config: the whole config, before flags change it.
    given: flags by name, as 'config.init_from', and their values.
  """
  from convmixer_jax.pretrained.run_network import take_network

  keys = {name.removeprefix('config.'): value for name, value in given.items()}
  if changed := take_network(config, keys):
    source = keys.get('init_from', config.get('init_from'))
    print(f'config.model as in {source}: {", ".join(changed)}')
