"""Finds the config files that come with the package, from any directory."""

import pathlib
import runpy

import ml_collections

_PACKAGE = pathlib.Path(__file__).parent
# Installed, they lie in the package; in a checkout, beside it.
_DIRECTORIES = (_PACKAGE / 'configs', _PACKAGE.parent / 'configs')


def find(value: str) -> str:
  """Returns the path of a config file, with the variant that was given.

  A path that exists, with or without `.py`, is taken first. Otherwise `digits`,
  `digits.py` and `configs/digits.py` all name the file that comes with the
  package. A name of no file is not changed.
  """
  name, colon, variant = value.partition(':')
  for given in (name, f'{name}.py'):
    if pathlib.Path(given).is_file():
      return f'{given}{colon}{variant}'
  stem = name.removeprefix('configs/').removesuffix('.py')
  for directory in _DIRECTORIES:
    path = directory / f'{stem}.py'
    if stem.isidentifier() and path.is_file():
      return f'{path}{colon}{variant}'
  return value


def names() -> list[str]:
  """Returns the names of the config files that come with the package."""
  return sorted(
    path.stem
    for directory in _DIRECTORIES
    for path in directory.glob('*.py')
    if path.stem != '__init__'
  )


def load(name: str) -> ml_collections.ConfigDict:
  """Returns the config of a file that comes with the package.

  Args:
    name: of it, such as 'digits' or 'finetune:768_32'.
  """
  path, _, variant = find(name).partition(':')
  return runpy.run_path(path)['get_config'](*filter(None, [variant]))
