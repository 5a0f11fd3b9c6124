"""The files of `--output`: checked before a command works, then written."""

import contextlib
import json
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from convmixer_jax import files
from convmixer_jax.bucket_access import check_access
from convmixer_jax.errors import UserError, one_line
from convmixer_jax.locks.directory_lock import DirectoryLock, is_of_lock

_MOST_NAMES = 5  # in a line


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
    files.write(
      epath.Path(path), json.dumps(content, indent=2) + '\n', is_shared=True
    )


@contextlib.contextmanager
def make_directory(path: str) -> Iterator[epath.Path]:
  """Makes a directory, local or in a bucket, unless it exists.

  It is locked in the `with` block, so that its files are those of one command,
  and removed at the end if nothing was written to it.

  Yields:
    Its path.

  Raises:
    InUse: another process writes to it.
    UserError: it cannot be made, or not be written to.
  """
  output = files.absolute_path(path)
  check_access(output, writes=True)
  with DirectoryLock(output, '--output'):
    yield output


def describe_written(output: epath.Path, written: Sequence[str]) -> str:
  """Returns lines on the files in a directory: those written, and any others.

  Args:
    output: the directory.
    written: names of the files that the command wrote.
  """
  lines = [f'In {output}: {_list_names(written)}', others_line(output, written)]
  return '\n'.join(filter(None, lines))


def describe_sizes(output: epath.Path, contents: Mapping[str, bytes]) -> str:
  """Returns a line for each file that was written, with its size.

  Args:
    output: the directory.
    contents: of the files by name.
  """
  lines = [
    f'Written to {output}:',
    *size_lines(contents),
    others_line(output, contents),
  ]
  return '\n'.join(filter(None, lines))


def size_lines(contents: Mapping[str, bytes]) -> list[str]:
  """Returns a line with name and size of each file, in kB or MB."""
  return [
    f'  {name:18} {_describe_size(len(content)):>11}'
    for name, content in contents.items()
  ]


def _describe_size(size):
  return f'{size / 1e6:.2f} MB' if size >= 1e6 else f'{size / 1e3:.2f} kB'


def others_line(output: epath.Path, written: Collection[str]) -> str | None:
  """Returns a line that names what else is in a directory, if anything is.

  Args:
    output: the directory.
    written: names of the files that the command wrote.
  """
  from convmixer_jax.data.image_files import display_name

  others = sorted(
    display_name(path.name)
    for path in output.iterdir()
    if path.name not in written and not is_of_lock(path.name)
  )
  if not others:
    return None
  return (
    f'Left in {output} as before, not written by this command: '
    f'{_list_names(others)}'
  )


def _list_names(names):
  shown, more = ', '.join(names[:_MOST_NAMES]), len(names) - _MOST_NAMES
  return f'{shown} and {more:,} more' if more > 0 else shown


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
