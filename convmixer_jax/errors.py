"""Exceptions that end a command, their text, and exit statuses."""

import contextlib
from collections.abc import Iterator

INTERRUPTED = 130  # the exit status that a shell reports after Ctrl-C


class UserError(ValueError):
  """Wrong input; one line says what was given, where, and what is valid.

  Raised where input is read (config, file, flag); `train.py` and the commands
  print it without a traceback and exit with status 1.
  """


class InUse(UserError):
  """Another process writes to the same place; later the same command works.

  `train.py` and the commands print it as one line and exit with `EXIT_STATUS`.
  """

  EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: try again


class Preempted(Exception):
  """A signal stopped the run; the same command resumes it.

  `train.py` prints it as one line and exits with `EXIT_STATUS`, and a notebook
  shows it as one line.
  """

  EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: try again

  def _render_traceback_(self) -> list[str]:
    """Returns what IPython shows in place of a traceback."""
    return [str(self)]


class Interrupted(Preempted, KeyboardInterrupt):
  """Ctrl-C, or the interrupt of a notebook's kernel, stopped the run."""


@contextlib.contextmanager
def user_code(what: str, cure: str = 'correct it') -> Iterator[None]:
  """Turns what code of the user's raises into a `UserError` of one line.

  Args:
    what: says what fails, such as 'train_transform fails for an image'.
    cure: what to do.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:  # any
    raise UserError(
      f'{what} ({type(error).__name__}: {first_line(error)}); {cure}'
    ) from error


def first_line(error: BaseException) -> str:
  """Returns the first line of an error's message, '' without a message."""
  return (str(error).strip().splitlines() or [''])[0]


def one_line(error: BaseException, limit: int | None = 200) -> str:
  """Returns the message of an error as one line.

  Args:
    error: of any library; without a message, the name of its type is returned.
    limit: number of characters after which the line is cut; None for no limit.
  """
  return ' '.join(str(error).split())[:limit] or type(error).__name__
