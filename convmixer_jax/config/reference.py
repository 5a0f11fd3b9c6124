"""The keys of the config as a table, for docs/configuration.md."""

from collections.abc import Iterable
from typing import Any

from convmixer_jax.config.keys import Key, describe_values
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
      _on_resume(key),
    )
    for key in SCHEMA.values()
  )


def _on_resume(key: Key) -> bool | str:
  return f'yes; {key.changes} changes' if key.changes else key.is_free


def table(rows: Iterable[tuple[str, Any, str, str, bool | str]]) -> str:
  """Returns a table in Markdown.

  Args:
    rows: key, default, what values it takes, what it means, and whether a run
      may resume with another value, or what is then different.
  """
  lines = [_HEADER, ['---'] * len(_HEADER)]
  lines += [
    (f'`{name}`', f'`{default!r}`', values, text, free)
    for name, default, values, text, is_free in rows
    for free in [is_free if isinstance(is_free, str) else 'yes' * is_free]
  ]
  return ''.join(f'| {" | ".join(line)} |\n' for line in lines)
