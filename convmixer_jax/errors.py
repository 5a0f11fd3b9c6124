"""What a run ends with besides success: wrong input, or a signal."""

INTERRUPTED = 130  # the exit status that a shell gives to Ctrl-C


class UserError(ValueError):
  """Wrong input: what was given, where, and what would do, in one line.

  Raised where input enters (config, file, flag); `train.py` and the tools print
  it without a traceback and exit with status 1.
  """


class Preempted(Exception):
  """A signal stopped the run; the same command goes on with it.

  `train.py` prints it in a line and exits with `EXIT_STATUS`.
  """

  EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: try again
