"""Checks the types of what the file of a sweep gives, before it is used."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from convmixer_jax.errors import UserError

NAME = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.+-]*')
BAD_NAME = (
  'a name of a grid or an option becomes part of the name of a directory; use '
  'letters of English, digits, and _ . + -'
)


def to_plain(value: Any) -> Any:
  """Returns the same without NumPy's numbers and arrays, which JSON lacks."""
  if isinstance(value, (np.ndarray, np.generic)):
    return value.tolist()
  if isinstance(value, Mapping):
    return {key: to_plain(each) for key, each in value.items()}
  if type(value) in (list, tuple):
    return type(value)(map(to_plain, value))
  return value


def check_grid(grid: Any) -> None:
  """Checks the fields of a `Grid` one by one, but for its choice.

  Raises:
    UserError: one has another type, or a name cannot be a directory's.
  """
  if not isinstance(grid.name, str) or (
    grid.name and not NAME.fullmatch(grid.name)
  ):
    raise UserError(f'the grid {grid.name!r}: {BAD_NAME}')
  where = f'the grid {grid.name!r}' if grid.name else 'a grid of the sweep'
  if not isinstance(grid.config, str):
    raise UserError(
      f'{where} has config={grid.config!r}; give a file or a name, as for '
      '--config'
    )
  check_seeds(grid.seeds, where)
  check_overrides(grid.axes, f'axes of {where}')
  if 'seed' in grid.axes:
    raise UserError(
      f"{where} has an axis 'seed'; the runs of a row differ in it already: "
      'give seeds, as in seeds=(0, 1, 2)'
    )
  check_overrides(grid.overrides, f'overrides of {where}')
  if not _is_list(grid.skip) or not all(
    isinstance(each, Mapping) for each in grid.skip
  ):
    raise UserError(
      f'{where} has skip={grid.skip!r}; give a list of dicts, such as '
      "[{'stem': 'patch2'}]"
    )
  if not _is_list(grid.special) or not all(
    _is_list(each)
    and len(each) == 2
    and all(isinstance(part, Mapping) for part in each)
    for each in grid.special
  ):
    raise UserError(
      f'{where} has special={grid.special!r}; give a list of pairs of dicts, '
      "such as [({'mixer': 'attention'}, {'weight_decay': 0.1})]"
    )
  for _, further in grid.special:
    check_overrides(further, f'special of {where}')


def check_choice(choice: Any) -> None:
  """Checks the fields of a `Choice` one by one.

  Raises:
    UserError: one has another type, or there is nothing to choose from.
  """
  if not isinstance(choice.key, str) or choice.key == 'seed':
    raise UserError(
      f'a choice has key={choice.key!r}; give a key of the config, such as '
      "'learning_rate'; seeds are not chosen"
    )
  where = f'the choice of {choice.key!r}'
  check_seeds(choice.seeds, where)
  check_overrides(choice.overrides, f'overrides of {where}')
  if not _is_list(choice.values) or not choice.values:
    raise UserError(
      f'{where} is among {choice.values!r}; give a list of values'
    )
  if not isinstance(choice.metric, str):
    raise UserError(f'{where} has metric={choice.metric!r}; give its name')


def check_seeds(seeds: Any, where: str) -> None:
  """Raises UserError if they are not whole numbers that differ."""
  is_many = isinstance(seeds, Collection) and not isinstance(seeds, str)
  numbers = list(seeds) if is_many else []
  are_numbers = all(type(seed) is int and seed >= 0 for seed in numbers)
  if not numbers or not are_numbers or len({*numbers}) < len(numbers):
    raise UserError(
      f'{where} has the seeds {numbers if is_many else seeds!r}; give a list '
      'of whole numbers of at least 0 that differ'
    )


def check_overrides(overrides: Any, what: str) -> None:
  """Raises UserError if they are not a dict by keys of the config."""
  if not isinstance(overrides, Mapping):
    raise UserError(
      f'{what}: {overrides!r} is not a dict; give one, or leave it'
    )
  for key in overrides:
    if not isinstance(key, str):
      raise UserError(
        f'{what}: {key!r} is not a key of the config; give a text, such as '
        "'model.width'"
      )


def _is_list(value):
  return isinstance(value, Sequence) and not isinstance(value, str)
