"""The keys of the config as a table, for docs/configuration.md."""

from collections.abc import Iterable
from typing import Any

from convmixer_jax.config.keys import describe_values
from convmixer_jax.config.schema import SCHEMA

_HEADER = ('Key', 'Default', 'Values', 'Meaning', 'May change on resume')


def describe() -> str:
  """Returns a table in Markdown of all keys, but those of `config.model`."""
  return table(
    (
      key.name,
      key.default,
      describe_values(key.default, key.ranges),
      key.text,
      key.is_free,
    )
    for key in SCHEMA.values()
  )


def table(rows: Iterable[tuple[str, Any, str, str, bool]]) -> str:
  """Returns a table in Markdown.

  Args:
    rows: key, default, what values it takes, what it means, and whether a run
      may resume with another value.
  """
  lines = [_HEADER, ['---'] * len(_HEADER)]
  lines += [
    (f'`{name}`', f'`{default!r}`', values, text, 'yes' if is_free else '')
    for name, default, values, text, is_free in rows
  ]
  return ''.join(f'| {" | ".join(line)} |\n' for line in lines)
