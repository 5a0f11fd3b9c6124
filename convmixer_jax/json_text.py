"""Parses JSON that anyone may have written."""

import json
from typing import Any

_MAX_NESTING = 50


def parse_json(text: str) -> Any:
  """Returns the value of a JSON text.

  Raises:
    ValueError: it is not JSON, or nested more deeply than any file needs.
  """
  try:
    value = json.loads(text)
  except RecursionError as error:
    raise ValueError('it is nested too deeply') from error
  level = [value]
  for _ in range(_MAX_NESTING):
    level = [
      item
      for container in level
      if isinstance(container, (dict, list))
      for item in (
        container.values() if isinstance(container, dict) else container
      )
    ]
  if level:
    raise ValueError('it is nested too deeply')
  return value
