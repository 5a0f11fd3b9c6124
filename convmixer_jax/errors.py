"""The one error a user is meant to read: wrong input, said in a line."""


class UserError(ValueError):
  """Wrong input: what was given, where, and what would do, in one line.

  Raised where input enters (config, file, flag); `train.py` and the tools print
  it without a traceback and exit with status 1.
  """
