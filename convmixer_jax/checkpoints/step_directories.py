"""The directories of a run's checkpoints: which there are, what is wrong."""

import os
import re

import orbax.checkpoint as ocp
from etils import epath

from convmixer_jax.errors import UserError, one_line

DIRECTORY = 'checkpoints'  # in a run; holds a directory for each saved step


def find_steps(directory: epath.Path) -> list[int]:
  """Returns the steps with a committed checkpoint, in no order.

  Raises:
    UserError: there is a file in place of the directory.
  """
  if not directory.exists():
    return []
  if not directory.is_dir():
    raise UserError(
      f'{directory} is a file, not a directory of checkpoints; move it away'
    )
  names = ocp.path.step.standard_name_format()
  return [found.step for found in names.find_all(directory)]


def check_is_ours(path: epath.Path) -> None:
  """Raises UserError unless the checkpoint at `path` has a state."""
  if not (path / 'state').is_dir():
    raise UserError('it has no state, so another program may have written it')


def describe_error(error: Exception) -> str:
  """Returns what went wrong, without the path, which the caller adds."""
  if isinstance(error, UserError):
    return str(error)
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  text = one_line(error, limit=None)
  if code := re.search(r"os_error_code='(\d+)'", text):
    return os.strerror(int(code[1]))
  return f'{type(error).__name__}: {text[:200]}'
