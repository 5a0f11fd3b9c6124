"""The rows of a comparison, in a file that survives an interruption."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from convmixer_jax import files
from convmixer_jax.errors import UserError

Row = dict[str, Any]
NAME = 'compare.json'


class Rows:
  """Rows by name of the network, and the settings that they share.

  Attributes:
    settings: what all values were measured with, such as `batch_size`, as far
      as anything that depends on it was measured.
    by_name: the rows, in their order.
  """

  def __init__(
    self, settings: Mapping[str, Any], directory: epath.Path | None = None
  ):
    """Reads the rows of an earlier, interrupted comparison, if there are any.

    Args:
      settings: see above; values for JSON.
      directory: of the file; None for no file.

    Raises:
      UserError: the file has rows of other settings, or cannot be read.
    """
    self.settings = json.loads(json.dumps(settings))
    self.by_name: dict[str, Row] = {}
    self._path = directory / NAME if directory else None
    if self._path and self._path.exists():
      before, self.by_name = _read(self._path, self.settings)
      self.settings = before | self.settings

  def add(self, name: str, values: Mapping[str, Any]) -> None:
    """Adds values to a network's row, and writes the file.

    Raises:
      OSError: it cannot be written.
    """
    self.by_name.setdefault(name, {}).update(values)
    if self._path:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      content = {'settings': self.settings, 'rows': self.by_name}
      files.write(self._path, json.dumps(content, indent=2) + '\n')

  def move_first(self, names: Iterable[str]) -> None:
    """Moves the rows of these networks, if there are any, to the beginning.

    The next `add` writes them so; the others keep their order.

    Args:
      names: in the order that is wanted.
    """
    rows = self.by_name
    self.by_name = {name: rows[name] for name in names if name in rows} | rows

  def drop(self, name: str, keys: Iterable[str]) -> None:
    """Removes values from a network's row, which the next `add` writes."""
    row = self.by_name.get(name, {})
    for key in keys:
      row.pop(key, None)

  def value(self, name: str, key: str) -> Any:
    """Returns a value of a network's row; None if there is none."""
    return self.by_name.get(name, {}).get(key)


def _read(path, settings):
  try:
    content = json.loads(path.read_text())
    before = dict(content['settings'])
    rows = {name: dict(row) for name, row in content['rows'].items()}
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f'{path} is not a file of this command; give another --output'
    ) from error
  different = [
    f'{key} {before[key]}, not {value}'
    for key, value in settings.items()
    if key in before and before[key] != value
  ]
  if different:
    raise UserError(
      f'{path} has rows measured with {"; ".join(different)}; give another '
      '--output, or the same settings to continue'
    )
  return before, rows
