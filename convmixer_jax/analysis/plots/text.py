"""Draws names as they are, whatever characters they have."""

import contextlib
import functools
import textwrap
from collections.abc import Callable, Iterable, Iterator

import matplotlib
from absl import logging
from matplotlib import font_manager, ft2font
from matplotlib.figure import Figure

_CHARACTERS_PER_INCH = 9  # of a title, few enough for wide letters
_NAME_LENGTH = 26  # characters
_NEUTRAL = set('\n\t')  # characters without a glyph
_reported: set[str] = set()  # characters that no font has


@contextlib.contextmanager
def literal_text(names: Iterable[str]) -> Iterator[Callable[[str], str]]:
  r"""Makes matplotlib draw names as they are, within the `with` block.

  Characters that matplotlib's font lacks are taken from other installed fonts.
  Those that no font has are written as Python does, such as \u732b, and one
  line on stderr says so. Dollars do not begin a formula.

  Args:
    names: all that will be drawn.

  Yields:
    A function that returns what to give to matplotlib for a name.
  """
  families = list(matplotlib.rcParams['font.family'])
  missing = set().union(*names) - _NEUTRAL
  missing -= _characters(font_manager.findfont(font_manager.FontProperties()))
  others = []
  if missing:
    for path in sorted(font_manager.findSystemFonts()):
      if found := missing & _characters(path):
        others.append(path)
        missing -= found
      if not missing:
        break
  families += [_register(path) for path in others]
  if new := sorted(missing - _reported):
    _reported.update(new)
    logging.warning(
      'no installed font has %s, which pictures show as %s; install one that '
      'has, such as Noto Sans',
      ' '.join(new[:5]),
      ' '.join(map(_escape, new[:5])),
    )

  def literal(name):
    name = ''.join(_escape(c) if c in missing else c for c in name)
    return name.replace('$', r'\$')

  with matplotlib.rc_context({'font.family': families}):
    yield literal


def add_title(figure: Figure, *parts: str) -> None:
  """Adds a title that fits the width of a figure.

  Args:
    figure: to which it is added.
    parts: of it, each of which may be empty; if it does not fit in a line, each
      begins a new one.
  """
  parts = tuple(filter(None, parts))
  columns = int(figure.get_figwidth() * _CHARACTERS_PER_INCH)
  title = ': '.join(parts)
  if len(title) > columns:
    title = '\n'.join(textwrap.fill(part, columns) for part in parts)
  figure.suptitle(title)


def shorten(name: str) -> str:
  """Returns the name of a class in a line, cut off where it is long."""
  name = ' '.join(name.split())
  if len(name) <= _NAME_LENGTH:
    return name
  return name[: _NAME_LENGTH - 1].rstrip() + '\u2026'


@functools.cache
def _characters(path: str) -> frozenset[str]:
  """Returns the characters that a font has; none if it cannot be read."""
  try:
    return frozenset(map(chr, ft2font.FT2Font(path).get_charmap()))
  except (OSError, RuntimeError, ValueError):
    return frozenset()


def _register(path):
  """Makes matplotlib know a font; returns its family."""
  font_manager.fontManager.addfont(path)
  return font_manager.FontProperties(fname=path).get_name()


def _escape(character):
  return character.encode('unicode_escape').decode('ascii')
