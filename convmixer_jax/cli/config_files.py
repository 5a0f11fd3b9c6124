"""Finds the config files that come with the package, from any directory."""

import pathlib
from collections.abc import Sequence

_FLAG = '--config'
_PACKAGE = pathlib.Path(__file__).parents[1]
# Installed, they lie in the package; in a checkout, beside it.
_DIRECTORIES = (_PACKAGE / 'configs', _PACKAGE.parent / 'configs')


def resolve(argv: Sequence[str]) -> list[str]:
  """Returns the arguments, with the path of a file in each `--config`.

  A path that exists is not changed. Otherwise `digits`, `digits.py` and
  `configs/digits.py` all name the file that comes with the package; a variant
  after a colon is kept. A name of no such file is not changed.

  Args:
    argv: of a command, in which `--config=NAME` and `--config NAME` may be.
  """
  resolved = list(argv)
  for i, argument in enumerate(argv):
    if argument.startswith(f'{_FLAG}='):
      resolved[i] = f'{_FLAG}={_find(argument.removeprefix(f"{_FLAG}="))}'
    elif i and argv[i - 1] == _FLAG:
      resolved[i] = _find(argument)
  return resolved


def _find(value: str) -> str:
  name, colon, variant = value.partition(':')
  if pathlib.Path(name).is_file():
    return value
  stem = name.removeprefix('configs/').removesuffix('.py')
  for directory in _DIRECTORIES:
    path = directory / f'{stem}.py'
    if stem.isidentifier() and path.is_file():
      return f'{path}{colon}{variant}'
  return value
