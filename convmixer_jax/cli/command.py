"""Runs a command: parses its flags, and reports an error in one line."""

import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from logging import getLogger
from typing import NoReturn

from absl import app, flags, logging

from convmixer_jax import config as config_lib
from convmixer_jax.cli import (
  config_arguments,
  ending,
  machine_errors,
  output,
)
from convmixer_jax.errors import INTERRUPTED, Preempted, UserError, one_line

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
  import_jax()
  from convmixer_jax import cache, jax_settings

  # TFDS imports TensorFlow for some sets, if it is installed; it should log
  # errors only.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

  def guarded(argv):
    logging.set_verbosity(logging.INFO if _DEBUG.value else logging.WARNING)
    cache.enable_compilation_cache()
    jax_settings.use_default_settings()
    if not _DEBUG.value:  # libraries log exceptions with a traceback
      for name in ('absl', 'asyncio'):
        getLogger(name).addFilter(lambda record: not record.exc_info)
    try:
      main(argv)
      sys.stdout.flush()
    except UserError as error:
      if _DEBUG.value:
        raise
      exit_with(error, getattr(error, 'EXIT_STATUS', 1))
    except Preempted as stopped:
      print(stopped, file=sys.stderr)
      sys.exit(Preempted.EXIT_STATUS)
    except KeyboardInterrupt:
      print('interrupted', file=sys.stderr)
      sys.exit(INTERRUPTED)
    except Exception as error:
      refused = machine_errors.describe(error)
      if _DEBUG.value or not refused:
        raise
      exit_with(refused)

  output.guard()
  try:
    with ending.ends_soon_after_errors():
      app.run(guarded, flags_parser=_parse_flags)
  finally:
    output.finish()


def expand_flagfiles() -> None:
  """Replaces `--flagfile=FILE` in `sys.argv` by the flags in the file.

  It has to be done before flags are defined: that of a config reads the files
  itself.
  """
  try:
    sys.argv[1:] = flags.FLAGS.read_flags_from_files(
      sys.argv[1:], force_gnu=False
    )
  except (flags.Error, UnicodeDecodeError) as error:
    text = one_line(error).removeprefix('ERROR:: ')
    exit_with(f'--flagfile cannot be read ({text}); name a file of flags')


def import_jax() -> None:
  """Imports JAX; ends the process if it refuses a setting of the shell."""
  try:
    importlib.import_module('jax')
  except (ValueError, TypeError) as error:
    if not any(name.startswith('JAX_') for name in os.environ):
      raise
    exit_with(f'JAX cannot be imported ({one_line(error)}); unset the variable')


def _parse_flags(argv):
  known = {}
  try:
    argv = config_arguments.resolve(argv)
    known = config_arguments.check(argv[1:])
    return flags.FLAGS(argv)
  except (UserError, flags.Error) as error:
    if '--debug' in argv:
      raise
    exit_with(_explain(error, known))


def _explain(error, known):
  """Returns the error, or one that says more than absl's.

  Args:
    error: of parsing the flags.
    known: the config's leaves by dotted key.
  """
  text = str(error)
  if isinstance(error, flags.UnrecognizedFlagError):
    keys = [key for key in known if key.split('.')[-1] == error.flagname]
    if keys:
      return (
        f'--{error.flagname} is not a flag; did you mean --config.{keys[0]}?'
      )
  if missing := re.match(r'flag --(\w+)=None: ', text):
    text = flags.FLAGS[missing[1]].help
    return f'--{missing[1]} is missing; give it: {text}'
  given = re.match(r'flag --config\.([\w.]+)=(.*?): ', text)
  if given and given[1] in known:
    kind = config_lib.describe_kind(known[given[1]])
    return f'--config.{given[1]}={given[2]} is not {kind}'
  return error


def refuse_arguments(argv: Sequence[str]) -> None:
  """Raises UserError if there is more than flags, as in `config.seed=1`."""
  if len(argv) > 1:
    raise UserError(f'{argv[1]!r} is not a flag; flags begin with --')


def exit_with(error: Exception | str, status: int = 1) -> NoReturn:
  """Ends the process with one line on stderr."""
  print('error:', *str(error).split(), file=sys.stderr)
  sys.exit(status)
