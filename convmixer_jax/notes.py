"""Notes for people: one line each on standard error, once in a process."""

import sys

_said: set[str] = set()


def note(text: str, subject: str | None = None) -> None:
  """Prints 'Note: ' and a line, unless it was printed before.

  Args:
    text: what is done differently, why, and what would change that.
    subject: of which one note is enough; None for the text.
  """
  subject = subject or text
  if subject not in _said:
    _said.add(subject)
    print(f'Note: {text}', file=sys.stderr, flush=True)
