"""Runs a command: parses its flags, and reports an error in one line."""

import inspect
import itertools
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from logging import getLogger
from typing import NoReturn

import ml_collections
from absl import app, flags, logging

from convmixer_jax import config as config_lib
from convmixer_jax import config_files
from convmixer_jax.cache import enable_compilation_cache
from convmixer_jax.cli import output
from convmixer_jax.cli.allocator import tune_allocator
from convmixer_jax.errors import INTERRUPTED, Preempted, UserError

_CONFIG_FLAG = '--config'
_DEBUG = flags.DEFINE_bool(
  'debug', False, 'show the traceback of an error in the input'
)


def run(main: Callable[[Sequence[str]], None]) -> None:
  """Runs `main` on the positional arguments, after absl parsed the flags.

  A `UserError`, or flags that cannot be parsed, end the process with status 1
  and one line on stderr; with `--debug`, with a traceback. `Preempted` and
  Ctrl-C end it with statuses of their own, and so does a closed stdout; see
  `output`.
  """
  tune_allocator()
  # TFDS imports TensorFlow for some sets, if it is installed; it should log
  # errors only.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

  def guarded(argv):
    logging.set_verbosity(logging.INFO if _DEBUG.value else logging.WARNING)
    enable_compilation_cache()
    if not _DEBUG.value:  # libraries log exceptions with a traceback
      for name in ('absl', 'asyncio'):
        getLogger(name).addFilter(lambda record: not record.exc_info)
    try:
      main(argv)
      sys.stdout.flush()
    except UserError as error:
      if _DEBUG.value:
        raise
      exit_with(error)
    except Preempted as stopped:
      print(stopped, file=sys.stderr)
      sys.exit(Preempted.EXIT_STATUS)
    except KeyboardInterrupt:
      print('interrupted', file=sys.stderr)
      sys.exit(INTERRUPTED)

  output.guard()
  try:
    app.run(guarded, flags_parser=_parse_flags)
  finally:
    output.finish()


def _parse_flags(argv):
  try:
    argv = _resolve_config(argv)
    known = _check_config_flags(argv[1:])
    try:
      return flags.FLAGS(argv)
    except flags.IllegalFlagValueError as error:
      given = re.match(r'flag --config\.([\w.]+)=(.*?): ', str(error))
      if not given or given[1] not in known:
        raise
      raise UserError(
        f'--config.{given[1]}={given[2]} is not '
        f'{config_lib.describe_kind(known[given[1]])}'
      ) from error
  except (UserError, flags.Error) as error:
    if '--debug' in argv:
      raise
    exit_with(error)


def _resolve_config(argv):
  """Returns the arguments, with the path of a file in each `--config`."""
  resolved = list(argv)
  for i, argument in enumerate(argv):
    name, separator, value = argument.partition('=')
    if separator and name == _CONFIG_FLAG:
      resolved[i] = f'{name}={config_files.find(value)}'
    elif i and argv[i - 1] == _CONFIG_FLAG:
      resolved[i] = config_files.find(argument)
  return resolved


def _check_config_flags(arguments):
  """Checks `--config` and its overrides; errors of absl take many lines.

  Returns the config's leaves by dotted key.
  """
  given = {}
  for name, following in itertools.zip_longest(arguments, arguments[1:]):
    if name.startswith(('--config', '--noconfig.')):
      name, _, value = name.removeprefix('--').partition('=')
      given[name] = value or following
  if 'config' not in given:
    return {}
  path, _, variant = given.pop('config').partition(':')
  if not os.path.isfile(path):
    raise UserError(
      f'--config={path} is not a file; give the path of one, or the name of '
      f'one that comes with the package: {", ".join(config_files.names())}'
    )
  from convmixer_jax import models  # imports Flax; only some commands need it

  config = _load_config(path, variant)
  if not isinstance(config, ml_collections.ConfigDict):
    raise UserError(
      f'get_config() of --config={path} returns {config!r}; return a '
      'ConfigDict, such as convmixer_jax.config.default_config()'
    )
  if network := given.get('config.model.name'):
    models.choose_network(config, network)
    parser = flags.FLAGS['config'].parser
    flags.FLAGS['config'].parser = _NetworkParser(parser, network)
  known = config_lib.flatten(config)
  for name in given:
    key = name.removeprefix('no').removeprefix('config.')
    if key not in known:
      network = known.get('model.name', models.DEFAULT)
      if key.startswith('model.') and models.is_field_of_another(
        key.removeprefix('model.'), network
      ):
        raise UserError(
          f'--{name} is not a field of {models.list_fields(network)}'
        )
      raise UserError(
        f'--{name}: there is no such key in {path}; did you mean '
        f'--config.{config_lib.nearest_key(config, key)}?'
      )
  return known


class _NetworkParser(flags.ArgumentParser):
  """Reads a config file, and sets the network to --config.model.name."""

  def __init__(self, parser, network):
    self._parser, self._network = parser, network

  def parse(self, argument):
    from convmixer_jax import models

    config = self._parser.parse(argument)
    with config.unlocked():
      models.choose_network(config, self._network)
    return config

  def flag_type(self):
    return self._parser.flag_type()


def _load_config(path, variant):
  """Runs a config file; any exception in it becomes one line."""
  try:
    get_config = runpy.run_path(path).get('get_config')
    if get_config is None:
      raise UserError(
        f'--config={path} defines no get_config(); define it to return a '
        'ConfigDict, such as convmixer_jax.config.default_config()'
      )
    if variant and not inspect.signature(get_config).parameters:
      raise UserError(
        f'--config={path}:{variant}: {path} has no variants; leave out '
        f':{variant}'
      )
    return get_config(variant) if variant else get_config()
  except UserError:
    raise
  except (Exception, SystemExit) as error:
    lines = [
      frame.lineno
      for frame in traceback.extract_tb(error.__traceback__)
      if frame.filename == path
    ]
    line = lines[-1] if lines else getattr(error, 'lineno', 1)
    raise UserError(
      f'--config={path} fails in line {line} ({type(error).__name__}: '
      f'{error}); correct it; --debug shows more'
    ) from error


def refuse_arguments(argv: Sequence[str]) -> None:
  """Raises UserError if there is more than flags, as in `config.seed=1`."""
  if len(argv) > 1:
    raise UserError(f'{argv[1]!r} is not a flag; flags begin with --')


def exit_with(error: Exception | str) -> NoReturn:
  """Ends the process with status 1 and one line on stderr."""
  print('error:', *str(error).split(), file=sys.stderr)
  sys.exit(1)
