"""The runs of a sweep with their configs, checked before anything starts."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import ml_collections
from etils import epath

from convmixer_jax import config as config_lib
from convmixer_jax import files
from convmixer_jax.checkpoints import workdir as workdir_lib
from convmixer_jax.errors import UserError
from convmixer_jax.sweeps import configs, held_out
from convmixer_jax.sweeps.grid import (
  RECORDS,
  TRIALS,
  Grid,
  Row,
  expand,
  run_name,
  trial_name,
)

CONFIG = 'config.json'


@dataclasses.dataclass
class Run:
  """A run of a sweep.

  Attributes:
    name: of it; of a trial, after 'trials/'.
    row: that it belongs to.
    seed: of it.
    directory: the run directory, as of any run.
    records: directory of what the sweep notes about it.
    is_trial: whether it is to choose a value of `row.choose`.
    value: of the trial, among these.
    config: the whole config; None until the value of its row is chosen.
  """

  name: str
  row: Row
  seed: int
  directory: epath.Path
  records: epath.Path
  is_trial: bool = False
  value: Any = None
  config: ml_collections.ConfigDict | None = None

  @property
  def log(self) -> epath.Path:
    """The file that all starts of the run add their output to."""
    return self.records / 'log.txt'

  @property
  def error(self) -> epath.Path:
    """The file with the line by which the run failed, if it did."""
    return self.records / 'error.txt'


@dataclasses.dataclass(frozen=True)
class Plan:
  """All runs of a sweep.

  Attributes:
    workdir: directory of the sweep.
    rows: combinations of options.
    runs: row by row, the trials of a row first.
  """

  workdir: epath.Path
  rows: Sequence[Row]
  runs: Sequence[Run]

  def of_row(self, row: Row, *, trials: bool) -> list[Run]:
    """Returns the trials of a row, or its other runs."""
    return [
      run for run in self.runs if run.row is row and run.is_trial == trials
    ]

  def config_of(self, run: Run, value: Any) -> ml_collections.ConfigDict:
    """Returns the config of a run whose row has this value."""
    return _config_of(run, value)

  def set_chosen(self, row: Row, value: Any) -> None:
    """Completes the configs of a row whose value is chosen."""
    for run in self.of_row(row, trials=False):
      run.config = _config_of(run, value)


def make_plan(grids: Sequence[Grid], workdir: str) -> Plan:
  """Returns the runs, with each config checked by itself; writes nothing.

  Args:
    grids: of the file of the sweep.
    workdir: directory of the sweep, which need not exist.

  Raises:
    UserError: a config is not valid, or trials would see the images that the
      runs are compared on.
  """
  directory = files.absolute_path(workdir)
  rows = expand(grids)
  runs = []
  for row in rows:
    if row.choose:
      for value in row.choose.values:
        for seed in row.choose.seeds:
          name = f'{TRIALS}/{trial_name(row, value, seed)}'
          runs.append(_run(directory, name, row, seed, value, is_trial=True))
    for seed in row.seeds:
      runs.append(_run(directory, run_name(row, seed), row, seed))
  plan = Plan(directory, rows, runs)
  for run in runs:
    run.config = _check(run)
  _refuse_copies(runs)
  return plan


def _refuse_copies(runs):
  """Raises UserError if two runs would be the same experiment."""
  texts: dict[str, str] = {}  # by row
  seen: dict[tuple[str, int], str] = {}
  for run in runs:
    if run.is_trial:
      continue
    name, choose = run.row.name, run.row.choose
    if name not in texts:
      config = run.config or _config_of(run, choose.values[0])
      values = {**config_lib.flatten(config), 'seed': choose}
      texts[name] = repr(sorted(values.items()))
    if other := seen.get((texts[name], run.seed)):
      raise UserError(
        f'runs {other} and {run.name} have the same config; leave one of them '
        'out'
      )
    seen[texts[name], run.seed] = run.name


def _run(directory, name, row, seed, value=None, is_trial=False):
  records = directory / RECORDS / name
  return Run(name, row, seed, directory / name, records, is_trial, value)


def _check(run):
  """Returns the config of a run; None if it depends on what is chosen."""
  choose = run.row.choose
  if run.is_trial:
    config = _config_of(run, run.value)
    with _named(run):
      held_out.check_names(_compared_dataset(run), config.dataset, choose.key)
    return config
  if choose is None:
    return _config_of(run, None)
  if run.seed == run.row.seeds[0]:  # those of the other seeds are as good
    for value in choose.values:
      _config_of(run, value)
  return None


def _config_of(run, value):
  overrides = dict(run.row.overrides)
  if run.row.choose:
    overrides[run.row.choose.key] = value
  if run.is_trial:
    overrides |= run.row.choose.overrides
    overrides[run.row.choose.key] = value
  overrides['seed'] = run.seed
  with _named(run):
    return configs.build_config(run.row.config, overrides)


@contextlib.contextmanager
def _named(run):
  """Adds the name of the run to errors."""
  try:
    yield
  except UserError as error:
    raise UserError(f'run {run.name}: {error}') from error


def _compared_dataset(run):
  """Returns `config.dataset` of the runs that a trial chooses for."""
  overrides = dict(run.row.overrides) | {run.row.choose.key: run.value}
  return configs.build_config(run.row.config, overrides).dataset


def check_data_and_networks(plan: Plan) -> None:
  """Opens the data of all runs, and traces each network once.

  Raises:
    UserError: the data cannot be opened, a network cannot be built, or trials
      would see images that the runs are compared on.
  """
  for run in plan.runs:
    config = run.config
    if config is None:
      assert run.row.choose, run.name
      config = _config_of(run, run.row.choose.values[0])
    with _named(run):
      size = configs.data_size(config)
      configs.network_size(config, size.num_classes)
      if run.is_trial:
        assert run.row.choose, run.name
        held_out.check_images(
          _compared_dataset(run), config.dataset, run.row.choose.key
        )


def check_unchanged(plan: Plan) -> None:
  """Compares each run with what ran in its directory.

  Raises:
    UserError: names the runs whose config is another one now.
  """
  changed = []
  for run in plan.runs:
    if run.config is None or not (run.directory / CONFIG).exists():
      continue
    recorded = workdir_lib.read_config(run.directory)
    if keys := configs.changed_keys(recorded, run.config):
      old = configs.normalize(recorded)
      new = configs.normalize(run.config)
      missing = 'missing'
      differences = ', '.join(
        f'{key} ({old.get(key, missing)} -> {new.get(key, missing)})'
        for key in keys
      )
      changed.append(f'{run.name}: {differences}')
  if changed:
    more = f' and {len(changed) - 3} more' if len(changed) > 3 else ''
    raise UserError(
      f'{plan.workdir} holds runs that the sweep now has another config for: '
      f'{"; ".join(changed[:3])}{more}; give the old values or a new '
      '--workdir, or remove the directories of these runs'
    )


def surplus_runs(plan: Plan) -> list[str]:
  """Returns the names of runs in the directory that the sweep lacks."""
  names = {run.name for run in plan.runs}
  found = []
  for prefix, directory in (
    ('', plan.workdir),
    (f'{TRIALS}/', plan.workdir / TRIALS),
  ):
    if directory.exists():
      found += [
        prefix + path.name
        for path in directory.iterdir()
        if (path / CONFIG).exists()
      ]
  return sorted(set(found) - names)


def write_config(run: Run) -> epath.Path:
  """Writes the config that a run is started with; returns its path."""
  assert run.config is not None, run.name
  run.records.mkdir(parents=True, exist_ok=True)
  path = run.records / CONFIG
  text = workdir_lib.config_to_json(run.config) + '\n'
  if not path.exists() or path.read_text() != text:
    workdir_lib.write_whole(path, text)
  return path
