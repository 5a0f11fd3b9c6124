"""The names of the own parts of a run, `parts.json` in its directory."""

import json
from collections.abc import Mapping

from etils import epath

from convmixer_jax.checkpoints.workdir import write_whole
from convmixer_jax.errors import UserError
from convmixer_jax.json_text import parse_json

_FILE, _CONFIG = 'parts.json', 'config.json'


def check_parts(workdir: epath.Path, names: Mapping[str, str]) -> None:
  """Checks that a run in `workdir`, if there is one, has the same own parts.

  Args:
    workdir: of the run.
    names: of each part by its argument, such as 'optimizer'.

  Raises:
    UserError: a part has another name, is missing or is new.
  """
  if not (workdir / _CONFIG).exists():
    return
  recorded = read_parts(workdir)
  for argument in sorted({*recorded, *names}):
    old, new = recorded.get(argument), names.get(argument)
    if old == new:
      continue
    if old is None:
      problem = f'without {argument}, and {new!r} is given; leave it out'
    elif new is None:
      problem = (
        f'with {argument} = {old!r}, and none is given; give it to '
        'train_and_evaluate'
      )
    else:
      problem = f'with another {argument}: {old!r} -> {new!r}; give the old one'
    raise UserError(
      f'--workdir={workdir} holds a run {problem} or a new --workdir'
    )


def read_parts(workdir: epath.Path) -> dict[str, str]:
  """Returns the names of the own parts of a run, by argument.

  Raises:
    UserError: the file is damaged.
  """
  path = workdir / _FILE
  if not path.exists():
    return {}
  try:
    names = parse_json(path.read_text())
    if not isinstance(names, dict) or not all(
      isinstance(name, str) for name in names.values()
    ):
      raise ValueError('it has other values')
  except (OSError, ValueError) as error:
    raise UserError(
      f'{path} does not have the names of the parts of a run ({error}); '
      'restore the one that train_and_evaluate wrote'
    ) from error
  return names


def write_parts(workdir: epath.Path, names: Mapping[str, str]) -> None:
  """Records the names of the own parts, if there are any.

  To be called before the config is recorded: without parts, a file that is
  there is of a start that ended before.
  """
  path = workdir / _FILE
  if names or path.exists():
    write_whole(path, json.dumps(dict(names), indent=2) + '\n')
