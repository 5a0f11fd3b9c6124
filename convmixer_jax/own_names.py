"""Names for parts of a run that have no content to compare: `named`.

A run records them, so that it is not resumed with another function.
"""

import dataclasses
from typing import Any

from convmixer_jax.errors import UserError

PREFIX = 'object:'  # in a config, of the names of networks and of data


@dataclasses.dataclass(frozen=True)
class Named:
  """A part of a run with a name; calls go to the part.

  Attributes:
    value: the part.
    name: what the run records.
  """

  value: Any
  name: str

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    """Calls the part."""
    return self.value(*args, **kwargs)


def named(value: Any, name: str) -> Named:
  """Gives a name to a part of a run; also `convmixer_jax.named`.

  Change the name when you change what the part does.

  Args:
    value: an augmentation function, an optimizer, a network or a source of
      images.
    name: what the run records, such as 'flip and blur, version 2'.

  Raises:
    UserError: the name is not a string, or empty.
  """
  if not isinstance(name, str) or not name.strip():
    raise UserError(
      f'named(..., {name!r}): the name is not a string with text; give one, '
      "such as 'flip and blur, version 2'"
    )
  return Named(unwrap(value), name)


def unwrap(value: Any) -> Any:
  """Returns the part without its name."""
  return value.value if isinstance(value, Named) else value


def name_of(value: Any) -> str | None:
  """Returns the name of a part: given by `named`, or its attribute `name`."""
  name = getattr(value, 'name', None)
  return name if isinstance(name, str) and name.strip() else None


def require_name(value: Any, argument: str) -> str:
  """Returns the name of a part.

  Args:
    value: the part.
    argument: that gave it, for the error.

  Raises:
    UserError: it has none.
  """
  name = name_of(value)
  if name is None:
    raise UserError(
      f'{argument} has no name, by which a run that resumes can tell it from '
      f"another; give convmixer_jax.named({argument}, 'NAME'), and another "
      'name whenever you change it'
    )
  return name
