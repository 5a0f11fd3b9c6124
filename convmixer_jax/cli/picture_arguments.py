"""The arguments of the commands that read image files, and their errors."""

import sys
from collections.abc import Mapping, Sequence

from convmixer_jax.errors import UserError


def require(argv: Sequence[str]) -> None:
  """Raises UserError if no image file or folder is named."""
  if len(argv) < 2:
    raise UserError('no picture is named; name image files or folders of them')


def report_passed_over(passed_over: Mapping[str, int]) -> None:
  """Prints how many files of the folders were not read, if any.

  Args:
    passed_over: their number by reason, of `find_images`.
  """
  from convmixer_jax.data.image_files import describe

  if passed_over:
    print('Passed over:', describe(passed_over), file=sys.stderr, flush=True)


def report_error(error: UserError | str) -> None:
  """Prints why a file cannot be read."""
  print('error:', error, file=sys.stderr, flush=True)


def require_readable(broken: int, total: int) -> None:
  """Raises UserError if some of the files could not be read."""
  if broken:
    raise UserError(f'{broken} of {total} files could not be read')
