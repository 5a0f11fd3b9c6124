"""Exceptions that end a command, and exit statuses."""

INTERRUPTED = 130  # the exit status that a shell reports after Ctrl-C


class UserError(ValueError):
  """Wrong input; one line says what was given, where, and what is valid.

  Raised where input is read (config, file, flag); `train.py` and the commands
  print it without a traceback and exit with status 1.
  """


class Preempted(Exception):
  """A signal stopped the run; the same command resumes it.

  `train.py` prints it as one line and exits with `EXIT_STATUS`.
  """

  EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: try again
