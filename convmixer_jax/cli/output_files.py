"""The files of `--output`: checked before a command works, then written."""

import contextlib
import errno
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from etils import epath

from convmixer_jax import files
from convmixer_jax.errors import UserError, one_line


def check_file(path: str | None) -> pathlib.Path | None:
  """Returns the path of a file that can be written; None if none is wanted.

  Raises:
    UserError: the path is a directory or in a bucket, or its directory does not
      exist or cannot be written to.
  """
  if not path:
    return None
  files.require_local(path, '--output')
  output = pathlib.Path(path).expanduser()
  if not output.parent.is_dir() or output.is_dir():
    raise UserError(
      f'--output={path} cannot be a file; give one in a directory that exists'
    )
  existing = output if output.exists() else output.parent
  if not os.access(existing, os.W_OK):
    raise UserError(
      f'--output={path}: {existing} cannot be written to; give another file'
    )
  return output


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes an object as JSON.

  Raises:
    UserError: the file cannot be written.
  """
  with one_line_errors(path):
    path.write_text(json.dumps(content, indent=2) + '\n')


@contextlib.contextmanager
def make_directory(path: str) -> Iterator[epath.Path]:
  """Makes a directory, local or in a bucket, unless it exists.

  It is removed at the end of the `with` block if nothing was written to it.

  Yields:
    Its path.

  Raises:
    UserError: it cannot be made, or not be written to.
  """
  output = files.absolute_path(path)
  files.check_access(output, writes=True)
  with contextlib.ExitStack() as stack:
    if not files.is_in_bucket(output):
      with one_line_errors(output):
        stack.enter_context(files.directory_in_use(output))
        if not os.access(output, os.W_OK | os.X_OK):
          raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    yield output


@contextlib.contextmanager
def one_line_errors(path: os.PathLike[str]) -> Iterator[None]:
  """Turns an OSError while `path` is written into a UserError."""
  try:
    yield
  except OSError as error:
    raise UserError(
      f'--output={os.fspath(path)} cannot be written to '
      f'({error.strerror or one_line(error)}); make room, or give another'
    ) from error
