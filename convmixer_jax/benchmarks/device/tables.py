"""Formats tables in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any


def table(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
  """Returns a table in Markdown."""
  rows = [header, ['---'] * len(header), *lines]
  # Messages of libraries may contain a bar.
  cells = [[str(cell).replace('|', '\\|') for cell in row] for row in rows]
  return '\n'.join(f'| {" | ".join(row)} |' for row in cells)
