"""Runs a command: reads its flags, and says what was wrong in one line."""

import inspect
import itertools
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from logging import getLogger
from typing import NoReturn

from absl import app, flags, logging

from convmixer_jax import config as config_lib
from convmixer_jax.cache import keep_compilations
from convmixer_jax.errors import INTERRUPTED, Preempted, UserError
from convmixer_jax.tools.allocator import tune_allocator

_DEBUG = flags.DEFINE_bool(
  'debug', False, 'show the traceback of an error in the input'
)


def run(main: Callable[[Sequence[str]], None]) -> None:
  """Runs `main` on the positional arguments, after absl parsed the flags.

  A `UserError`, or flags that cannot be parsed, end the process with status 1
  and one line on stderr; with `--debug`, with a traceback. `Preempted` and
  Ctrl-C end it with statuses of their own.
  """
  tune_allocator()
  # TensorFlow, which writes TensorBoard's files, is to do so without a word.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

  def guarded(argv):
    logging.set_verbosity(logging.INFO if _DEBUG.value else logging.WARNING)
    keep_compilations()
    if not _DEBUG.value:  # libraries log what they raise, with a traceback
      for name in ('absl', 'asyncio'):
        getLogger(name).addFilter(lambda record: not record.exc_info)
    try:
      main(argv)
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

  app.run(guarded, flags_parser=_parse_flags)


def _parse_flags(argv):
  try:
    _check_config_flags(argv[1:])
    return flags.FLAGS(argv)
  except (UserError, flags.Error) as error:
    if '--debug' in argv:
      raise
    exit_with(error)


def _check_config_flags(arguments):
  """Checks `--config` and its overrides, which absl would refuse at length."""
  given = {}
  for name, following in itertools.zip_longest(arguments, arguments[1:]):
    if name.startswith('--config'):
      name, _, value = name.removeprefix('--').partition('=')
      given[name] = value or following
  if 'config' not in given:
    return
  path, _, variant = given.pop('config').partition(':')
  if not os.path.isfile(path):
    raise UserError(f'--config={path} is no file; configs/ has some')
  get_config = runpy.run_path(path).get('get_config')
  if get_config is None:
    raise UserError(f'--config={path} defines no get_config()')
  if variant and not inspect.signature(get_config).parameters:
    raise UserError(f'--config={path}:{variant}: {path} has no variants')
  config = get_config(variant) if variant else get_config()
  known = config_lib.flatten(config)
  for name in given:
    key = name.removeprefix('config.')
    if key not in known:
      raise UserError(
        f'--{name}: there is no such key in {path}; did you mean '
        f'--config.{config_lib.nearest_key(config, key)}?'
      )


def exit_with(error: Exception | str) -> NoReturn:
  """Ends the process with status 1 and one line on stderr."""
  print('error:', *str(error).split(), file=sys.stderr)
  sys.exit(1)
