"""Finds and runs config files, also those that come with the package."""

import inspect
import os
import pathlib
import runpy
import sys
import traceback
from typing import Any

import ml_collections

from convmixer_jax.errors import UserError

_PACKAGE = pathlib.Path(__file__).parent
# Installed, they lie in the package; in a checkout, beside it.
_DIRECTORIES = (_PACKAGE / 'configs', _PACKAGE.parent / 'configs')


def find(value: str, folder: str = '') -> str:
  """Returns the path of a config file, with the variant that was given.

  A path that exists, with or without `.py`, is taken first. Otherwise `digits`,
  `digits.py` and `configs/digits.py` all name the file that comes with the
  package. A name of no file is not changed.

  Args:
    value: of a flag.
    folder: in configs/, where the files are; '' for configs/ itself.
  """
  name, colon, variant = value.partition(':')
  for given in (name, f'{name}.py'):
    if pathlib.Path(given).is_file():
      return f'{given}{colon}{variant}'
  stem = name.removeprefix('configs/').removesuffix('.py')
  stem = stem.removeprefix(f'{folder}/')
  for directory in _DIRECTORIES:
    path = directory / folder / f'{stem}.py'
    if stem.isidentifier() and path.is_file():
      return f'{path}{colon}{variant}'
  return value


def names(folder: str = '') -> list[str]:
  """Returns the names of the config files that come with the package.

  Args:
    folder: see `find`.
  """
  return sorted(
    path.stem
    for directory in _DIRECTORIES
    for path in (directory / folder).glob('*.py')
    if path.stem != '__init__'
  )


def load(name: str) -> ml_collections.ConfigDict:
  """Returns the config of a file that comes with the package.

  Args:
    name: of it, such as 'digits' or 'finetune:768_32'.
  """
  path, _, variant = find(name).partition(':')
  return runpy.run_path(path)['get_config'](*filter(None, [variant]))


def call(
  path: str,
  variant: str = '',
  *,
  function: str = 'get_config',
  flag: str = '--config',
  needed: str = (
    'to return a ConfigDict, such as convmixer_jax.config.default_config()'
  ),
) -> Any:
  """Runs a file and returns what its function returns.

  Like a script, the file can import modules from its own directory.

  Args:
    path: of the file.
    variant: an argument of the function; '' for none.
    function: name of it.
    flag: that gave the path, for messages.
    needed: what the function is for, as an error says it.

  Raises:
    UserError: the file has no such function, or raises anything.
  """
  sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
  try:
    defined = runpy.run_path(path).get(function)
    if defined is None:
      raise UserError(
        f'{flag}={path} defines no {function}(); define it {needed}'
      )
    if variant and not inspect.signature(defined).parameters:
      raise UserError(
        f'{flag}={path}:{variant}: {path} has no variants; leave out :{variant}'
      )
    return defined(variant) if variant else defined()
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
      f'{flag}={path} fails in line {line} ({type(error).__name__}: '
      f'{error}); correct it; --debug shows more'
    ) from error
