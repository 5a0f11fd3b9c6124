"""What a key of the config is: a default, its type, ranges and a text."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

from convmixer_jax.errors import UserError

_KINDS = {
  bool: 'True or False',
  int: 'a whole number',
  float: 'a finite number',
  str: 'a string',
  type(None): 'a string or None',
}


@dataclasses.dataclass(frozen=True)
class Range:
  """Which values of the right type a key takes.

  Attributes:
    text: completes 'is not', such as 'at least 1'.
    admits: whether a value is one of them.
    hint: what an error adds.
    limits_size: whether it has the upper limit of a whole number, in place of
      the usual one, 2**31 - 1.
    has_type: whether a value is of the right type; None for the type of the
      key's default.
    type_text: in words what that type is, if `has_type` is given.
  """

  text: str
  admits: Callable[[Any], bool]
  hint: str = ''
  limits_size: bool = False
  has_type: Callable[[Any], bool] | None = None
  type_text: str = ''


@dataclasses.dataclass(frozen=True)
class Key:
  """A key of the config.

  Attributes:
    name: with dots, as in 'dataset.image_size'.
    default: its type is that of all values, unless a range has another.
    text: what it is, in a line.
    ranges: what values of this type have to be.
    is_free: whether a run may resume with another value: it changes neither
      the network nor what it is trained on.
    changes: what another value changes for the steps that are left, if that is
      free; the run says so when it resumes.
  """

  name: str
  default: Any
  text: str
  ranges: tuple[Range, ...] = ()
  is_free: bool = False
  changes: str = ''


def key(name: str, default: Any, text: str, *ranges: Range) -> Key:
  """Returns a key that no run may change."""
  return Key(name, default, text, ranges)


def free_key(
  name: str, default: Any, text: str, *ranges: Range, changes: str = ''
) -> Key:
  """Returns a key that a run may resume with another value of."""
  return Key(name, default, text, ranges, is_free=True, changes=changes)


_FITS_INT32 = Range('below 2**31', lambda value: value < 2**31)


def at_least(minimum: float, below: float = math.inf) -> Range:
  """Returns the range of numbers with `minimum <= number < below`."""
  text = f'at least {minimum}'
  if below < math.inf:
    text += f' and below {below}'
  return Range(text, lambda value: minimum <= value < below)


AT_LEAST_ONE = at_least(1)
NOT_NEGATIVE = at_least(0)
BELOW_ONE = at_least(0, below=1)
PROBABILITY = Range('a probability, from 0 to 1', lambda x: 0 <= x <= 1)
PAIR = Range(
  'a pair (low, high) with 0 < low <= high',
  lambda value: 0 < value[0] <= value[1],
)


def one_of(*choices: str | None) -> Range:
  """Returns the range of some strings, and perhaps None."""
  text = f'one of {", ".join(map(str, choices))}'
  return Range(text, lambda value: value in choices)


def check_value(
  name: str, value: Any, default: Any, ranges: Iterable[Range]
) -> None:
  """Checks the value of a key, or of a field of a network, by itself.

  Args:
    name: for the error, such as 'config.batch_size'.
    value: of it.
    default: whose type the value must have.
    ranges: in which it must be.

  Raises:
    UserError: names the key, its value and what it may be.
  """
  ranges = list(ranges)
  has_right_type, kind = is_like(value, default), describe_kind(default)
  for allowed in ranges:
    if allowed.has_type:
      has_right_type, kind = allowed.has_type(value), allowed.type_text
  if not has_right_type:
    raise UserError(f'{name} = {value!r} is not {kind}')
  is_whole = isinstance(default, int)
  if is_whole and not any(allowed.limits_size for allowed in ranges):
    ranges.append(_FITS_INT32)
  for allowed in ranges:
    if not allowed.admits(value):
      raise UserError(f'{name} = {value!r} is not {allowed.text}{allowed.hint}')


def describe_values(default: Any, ranges: Iterable[Range]) -> str:
  """Returns type and ranges in a few words; choices say the type, too."""
  ranges = list(ranges)
  texts = [allowed.text for allowed in ranges if allowed.text]
  if texts and (default is None or isinstance(default, str)):
    return '; '.join(texts)
  kinds = [allowed.type_text for allowed in ranges if allowed.has_type]
  return '; '.join([*(kinds or [short_kind(default)]), *texts])


def describe_kind(default: Any) -> str:
  """Returns in words what values a key takes that has this default."""
  if isinstance(default, tuple):
    kind = f'{len(default)} values, each {_kind(default[0])}'
  else:
    kind = _kind(default)
  return f'{kind}, such as {default!r}'


def short_kind(default: Any) -> str:
  """Returns in a few words, for a table, the type of a key's values."""
  if isinstance(default, tuple):
    return f'{len(default)} {short_kind(default[0])}s'
  return _kind(default).removeprefix('a ').replace('finite ', '')


def _kind(default):
  return _KINDS.get(type(default), f'a {type(default).__name__}')


def is_like(value: Any, default: Any) -> bool:
  """Whether a value has the type of a key with this default."""
  if isinstance(default, tuple):
    return (
      isinstance(value, (tuple, list))
      and len(value) == len(default)
      and all(map(is_like, value, default))
    )
  if default is None:  # a placeholder for a string
    return value is None or isinstance(value, str)
  if isinstance(default, float):
    return type(value) in (int, float) and math.isfinite(value)
  return type(value) is type(default)  # so that True is not 1
