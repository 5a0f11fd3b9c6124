"""Describes an error of any library in one line.

Needs only the standard library, so that another Python, without JAX, can import
it; `errors.one_line` is for the rest of the package.
"""


def describe(error: Exception) -> str:
  """Returns the type of an error and the first line of its message."""
  lines = str(error).strip().splitlines() or ['']
  return f'{type(error).__name__}: {lines[0][:300]}'
