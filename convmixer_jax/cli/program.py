"""Whether the process runs a command of this package, and nothing else."""

import os
import pathlib
import shlex
import shutil
import sys
import threading
from collections.abc import Sequence

_MODULE = 'convmixer_jax'
_CONSOLE = 'convmixer'
_WITH_VALUE = ('W', 'X')  # options of the interpreter; so are `m` and `c`
_ROOT = pathlib.Path(__file__).parents[2]


def is_program() -> bool:
  """Whether this very command is the program that was started.

  So it is with `python train.py`, `python -m convmixer_jax` and `convmixer`;
  not in a notebook, in another script, under a debugger or a profiler, nor in a
  thread: there the process has more to lose than the command.
  """
  if sys.gettrace() is not None or sys.getprofile() is not None:
    return False
  if threading.active_count() > 1:
    return False
  kind, name = started(sys.orig_argv)
  if kind == 'module':
    return name == _MODULE
  if kind != 'script' or not pathlib.Path(name).is_file():
    return False
  path = pathlib.Path(name).resolve()
  main = getattr(sys.modules.get('__main__'), '__file__', None)
  if main is None or pathlib.Path(main).resolve() != path:
    return False
  return path == _ROOT / 'train.py' or path.stem == _CONSOLE


def command_line() -> str:
  """Returns how the shell starts a command of this package, here and now.

  To it a name is appended, as in `python -m convmixer_jax evaluate`: the way
  that this process was started, if it has other commands too.
  """
  kind, name = started(sys.orig_argv)
  python = shlex.quote(sys.orig_argv[0] if sys.orig_argv else sys.executable)
  path = pathlib.Path(name)
  if kind == 'script' and path.stem == _CONSOLE:
    found = shutil.which(_CONSOLE)
    on_path = found and pathlib.Path(found).resolve() == path.resolve()
    return _CONSOLE if on_path else shlex.quote(name)
  if kind not in ('script', 'module'):
    return _CONSOLE if shutil.which(_CONSOLE) else f'{python} -m {_MODULE}'
  variable = os.environ.get('PYTHONPATH', '')
  of_variable = [place for place in variable.split(os.pathsep) if place]
  # One is the script's own directory, and the shell may not have the variable.
  known = (kind == 'script') + _count_root(of_variable)
  if _ROOT == pathlib.Path.cwd() or _count_root(sys.path) > known:
    return f'{python} -m {_MODULE}'
  if not _count_root(of_variable):
    variable = os.pathsep.join(filter(None, (str(_ROOT), variable)))
  return f'PYTHONPATH={shlex.quote(variable)} {python} -m {_MODULE}'


def _count_root(places):
  return sum(
    pathlib.Path(place).resolve() == _ROOT for place in places if place
  )


def started(arguments: Sequence[str]) -> tuple[str | None, str]:
  """Returns what an interpreter was started with.

  Args:
    arguments: `sys.orig_argv`.

  Returns:
    'module' or 'script' and its name; None and '' for anything else, such as a
    text (`-c`), standard input, or the interactive interpreter.
  """
  rest = list(arguments[1:])
  while rest:
    argument = rest.pop(0)
    if not argument.startswith('-'):
      return 'script', argument
    if argument in ('-', '--'):
      break
    if argument.startswith('--'):
      if argument == '--check-hash-based-pycs' and rest:
        rest.pop(0)
      continue
    letters = argument[1:]
    for position, letter in enumerate(letters, start=1):
      value = letters[position:]
      if letter == 'm':
        return 'module', value or (rest[0] if rest else '')
      if letter == 'c':
        return None, ''
      if letter in _WITH_VALUE:
        if not value and rest:
          rest.pop(0)
        break
  return None, ''
