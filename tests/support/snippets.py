"""Runs the Python blocks of a page, in order, as one program."""

import os
import pathlib
import re
from collections.abc import Mapping

import commands

ROOT = pathlib.Path(__file__).parents[2]
_BLOCK = re.compile(r'^```python\n(.*?)^```', re.DOTALL | re.MULTILINE)


def blocks_of(page: str) -> list[str]:
  """Returns the blocks of a page, by its path in the repository."""
  return _BLOCK.findall((ROOT / page).read_text())


def run(
  blocks: list[str],
  directory: str | os.PathLike,
  environment: Mapping[str, str] = {},
) -> str:
  """Runs blocks as one program in a directory; returns what it prints."""
  program = '\n'.join(blocks)
  done = commands.run(['-c', program], environment, directory=directory)
  assert done.returncode == 0, done.stderr
  return done.stdout
