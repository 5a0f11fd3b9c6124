"""What a file of a sweep describes: grids of settings, and their runs' names.

`get_sweep()` of such a file returns a `Grid`, or a list of them:

    def get_sweep() -> Grid:
      return Grid(
        config='digits',
        overrides={'num_epochs': 4},
        axes={'model.width': [16, 32]},
        seeds=(0, 1, 2),
      )

These are six runs: width16-seed0, width16-seed1, and so on.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convmixer_jax.errors import UserError
from convmixer_jax.sweeps import grid_checks

TRIALS = 'trials'  # directory of the runs of a `Choice`, in that of the sweep
RECORDS = 'sweep'  # directory of what is noted about the runs
_LONGEST = 200  # characters of a name; file systems allow 255


@dataclasses.dataclass(frozen=True)
class Choice:
  """Chooses the value of a key for each row, before the runs of the row start.

  For each value a row has trials. Their overrides have to keep the held-out
  images of the runs out: they train on a part of the training images, and are
  evaluated on another part of these.

  Attributes:
    key: of the config, such as 'learning_rate'.
    values: to choose from.
    overrides: of the trials: both splits, and often a shorter length.
    seeds: of the trials; with several, the mean over them decides.
    metric: whose last value decides; the largest is chosen, of a loss the
      smallest, and of equal ones the first.
  """

  key: str
  values: Sequence[Any]
  overrides: Mapping[str, Any]
  seeds: Sequence[int] = (0,)
  metric: str = 'eval_accuracy'


@dataclasses.dataclass(frozen=True)
class Grid:
  """All combinations of the options of some axes, each with several seeds.

  A combination is a row: its runs differ in the seed only. Where settings set
  the same key, the later of these wins: `overrides`, axes in their order,
  `special`, what `choose` has chosen, the seed.

  Attributes:
    config: base, as for `--config`: a file or a name, and perhaps :VARIANT.
    axes: by name, the options. A list is of values of the key that the name is,
      as in `{'model.width': [16, 32]}`. A dict has the options by name, as in
      `{'stem': {'patch2': {'model.patch_size': 2}, ...}}`; what it has for an
      option are overrides, or a value of the key that the axis is named after.
    overrides: values by key of the config, of all runs.
    seeds: of the runs of each row.
    name: begins the names of the runs; needed where grids share names.
    skip: combinations to leave out, as in `[{'stem': 'patch2'}]`: those that
      have all these options. A list in place of an option is any of them.
    special: further overrides of some combinations, as in
      `[({'mixer': 'attention'}, {'weight_decay': 0.1})]`.
    choose: a key whose value is chosen for each row.
  """

  config: str
  axes: Mapping[str, Sequence[Any] | Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  seeds: Sequence[int] = (0,)
  name: str = ''
  skip: Sequence[Mapping[str, Any]] = ()
  special: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]] = ()
  choose: Choice | None = None


@dataclasses.dataclass(frozen=True)
class Row:
  """A combination of options.

  Attributes:
    name: that the names of its runs begin with.
    config: base; see `Grid`.
    overrides: values by key, without seed and what is chosen.
    seeds: of its runs.
    choose: see `Grid`.
  """

  name: str
  config: str
  overrides: Mapping[str, Any]
  seeds: tuple[int, ...]
  choose: Choice | None


@dataclasses.dataclass(frozen=True)
class _Option:
  """One option of an axis: its name, its value if it has one, overrides."""

  name: str
  value: Any
  overrides: Mapping[str, Any]

  def is_one_of(self, wanted: Any) -> bool:
    """Whether it is the wanted option, by name or value, or in that list."""
    return any(each in (self.name, self.value) for each in _listed(wanted))


def expand(grids: Sequence[Grid]) -> list[Row]:
  """Returns the rows of all grids.

  Raises:
    UserError: a grid has no options, seeds or values, its exceptions name
      options that it lacks, or two rows have the same name.
  """
  rows = [row for grid in grids for row in _rows(grid)]
  if not rows:
    raise UserError('the sweep has no runs; give a Grid some')
  seen: dict[str, str] = {}
  for row in rows:
    if row.name in (TRIALS, RECORDS) or len(row.name) > _LONGEST:
      raise UserError(
        f'{row.name!r} cannot be the name of runs; give the options of the '
        f'axes other names of at most {_LONGEST} characters in all'
      )
    folded = row.name.lower()  # as some file systems do
    if folded in seen:
      raise UserError(
        f'two rows of the sweep have the names {seen[folded]!r} and '
        f'{row.name!r}; give the grids, or the options, names that differ'
      )
    seen[folded] = row.name
  return rows


def run_name(row: Row, seed: int) -> str:
  """Returns the name of a run, which is that of its directory."""
  return f'{row.name}-seed{seed}'


def trial_name(row: Row, value: Any, seed: int) -> str:
  """Returns the name of a trial of a row that has a choice."""
  assert row.choose, row.name
  return f'{row.name}-{_valued(row.choose.key, value)}-seed{seed}'


def _rows(grid: Grid) -> Iterator[Row]:
  grid = _check(grid)
  axes = {axis: _options(axis, options) for axis, options in grid.axes.items()}
  for where in (*grid.skip, *(where for where, _ in grid.special)):
    _check_where(where, axes)
  for chosen in itertools.product(*axes.values()):
    options = dict(zip(axes, chosen, strict=True))
    if any(_matches(options, where) for where in grid.skip):
      continue
    overrides = dict(grid.overrides)
    for option in chosen:
      overrides |= option.overrides
    for where, further in grid.special:
      if _matches(options, where):
        overrides |= further
    parts = [grid.name, *(option.name for option in chosen)]
    name = '-'.join(filter(None, parts)) or _base_name(grid.config)
    yield Row(name, grid.config, overrides, tuple(grid.seeds), grid.choose)


def _check(grid: Any) -> Grid:
  """Returns a grid with plain values, after all checks of its fields."""
  if not isinstance(grid, Grid):
    raise UserError(
      f'get_sweep() returns a {type(grid).__name__}; return a '
      'convmixer_jax.sweeps.Grid, or a list of them'
    )
  grid = _with_plain_values(grid)
  grid_checks.check_grid(grid)
  choice = grid.choose
  if choice is None:
    return grid
  if not isinstance(choice, Choice):
    raise UserError(
      f'a grid of the sweep has choose={choice!r}; give it a '
      'convmixer_jax.sweeps.Choice'
    )
  choice = _with_plain_values(choice)
  grid_checks.check_choice(choice)
  if len({_valued(choice.key, value) for value in choice.values}) < len(
    choice.values
  ):
    raise UserError(
      f'the choice of {choice.key!r} is among {list(choice.values)}; give '
      'values that differ'
    )
  return dataclasses.replace(grid, choose=choice)


def _with_plain_values(fields):
  values = vars(fields)
  return dataclasses.replace(
    fields, **{name: grid_checks.to_plain(values[name]) for name in values}
  )


def _options(axis: str, options: Any) -> list[_Option]:
  """Returns the options of an axis."""
  found = []
  if isinstance(options, Mapping):
    for name, value in options.items():
      if not isinstance(name, str) or not grid_checks.NAME.fullmatch(name):
        raise UserError(
          f'option {name!r} of the axis {axis!r}: {grid_checks.BAD_NAME}'
        )
      if isinstance(value, Mapping):
        what = f'option {name!r} of the axis {axis!r}'
        grid_checks.check_overrides(value, what)
        found.append(_Option(name, name, value))
      else:
        found.append(_Option(name, value, {axis: value}))
  elif isinstance(options, Sequence) and not isinstance(options, str):
    for value in options:
      if isinstance(value, Mapping):
        raise UserError(
          f'the axis {axis!r} has overrides in a list; give them names, in a '
          'dict'
        )
      found.append(_Option(_valued(axis, value), value, {axis: value}))
  else:
    raise UserError(
      f'the axis {axis!r} is {options!r}; give a list of values, or a dict of '
      'overrides by name'
    )
  if not found:
    raise UserError(f'the axis {axis!r} has no options; give it one or more')
  return found


def _listed(wanted):
  """Returns the options that an exception of the sweep names for an axis."""
  return wanted if isinstance(wanted, (list, tuple, set)) else [wanted]


def _check_where(where, axes):
  """Raises UserError if an exception names what the grid does not have."""
  for axis, wanted in where.items():
    if axis not in axes:
      raise UserError(
        f'an exception of the sweep names the axis {axis!r}; there are '
        f'{", ".join(axes) or "none"}'
      )
    for each in _listed(wanted):
      if not any(option.is_one_of([each]) for option in axes[axis]):
        names = ', '.join(option.name for option in axes[axis])
        raise UserError(
          f'an exception of the sweep names {each!r} of the axis {axis!r}; '
          f'there are {names}'
        )


def _matches(options, where):
  return all(options[axis].is_one_of(wanted) for axis, wanted in where.items())


def _valued(key, value):
  """Returns a key and its value as part of a name, such as 'width16'."""
  return f'{key.rpartition(".")[2]}{_text(value)}'


def _text(value: Any) -> str:
  if isinstance(value, (tuple, list)):
    return 'x'.join(map(_text, value))
  return re.sub(r'[^A-Za-z0-9_.+-]', '_', str(value).lower()) or 'none'


def _base_name(config):
  """Returns the name of runs that have no options: that of their config."""
  path, _, variant = config.partition(':')
  stem = re.split(r'[/\\]', path)[-1].removesuffix('.py')
  return _text('-'.join(filter(None, [stem, variant])))
