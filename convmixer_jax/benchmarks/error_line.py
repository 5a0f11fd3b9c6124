"""One line about an error of any library.

Needs only the standard library, so that another Python can import it.
"""


def describe(error: Exception) -> str:
  """Returns the kind of an error and the first line of its text."""
  lines = str(error).strip().splitlines() or ['']
  return f'{type(error).__name__}: {lines[0][:300]}'
