"""Finds runs in directories, and reads what they have measured."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from etils import epath

from convmixer_jax import files, models
from convmixer_jax.bucket_access import check_access
from convmixer_jax.checkpoints import workdir as workdir_lib
from convmixer_jax.config import SCHEMA, flatten
from convmixer_jax.data.identity import Identity
from convmixer_jax.errors import UserError
from convmixer_jax.sweeps.grid import RECORDS, TRIALS
from convmixer_jax.sweeps.plan import CONFIG
from convmixer_jax.sweeps.progress import Progress, read_progress

_FREE = {key.name for key in SCHEMA.values() if key.is_free and not key.changes}
_NOT_STARTED = 'not started'
_CONTENT = 'dataset.content'


@dataclasses.dataclass(frozen=True)
class RunResult:
  """A run that was found.

  Attributes:
    name: of its directory, and of those above it as far as needed.
    path: of its directory.
    config: that it was last started with.
    settings: the flattened config, without what changes no result, and
      'dataset.content' where runs with the same config saw different data.
    progress: how far it is, and its metrics.
    problem: '' if it is complete; else 'not started', 'failed: ...' or
      'unfinished'.
    num_classes: of its data; None if it did not record them.
    data: identity of its data, None if it did not record it.
  """

  name: str
  path: epath.Path
  config: ml_collections.ConfigDict
  settings: Mapping[str, Any]
  progress: Progress
  problem: str
  num_classes: int | None
  data: Identity | None = None

  @property
  def seed(self) -> int:
    """The seed that it was started with."""
    return self.config.get('seed', 0)

  @property
  def eval_content(self) -> str | None:
    """A hash of the images that it is evaluated on, None if not recorded."""
    splits = {} if self.data is None else self.data['splits']
    split = splits.get(self.settings['dataset.eval_split'])
    return split and split['content']


def find_runs(paths: Sequence[str | os.PathLike[str]]) -> list[RunResult]:
  """Returns the runs of directories: run directories, or such that hold some.

  Those of a sweep that are not yet started are found, too. Trials, by which a
  sweep chose a value, are in a directory of their own, `trials`.

  Args:
    paths: of runs, or of directories of runs; local, or in a bucket.

  Raises:
    UserError: a directory has no runs, a run is damaged, or two have one name.
  """
  found: dict[epath.Path, RunResult] = {}
  for path in paths:
    directory = files.absolute_path(path)
    check_access(directory)
    if (directory / CONFIG).exists():
      found[directory] = _read(directory, directory.name)
      continue
    runs = _list_runs(directory)
    if not runs:
      raise UserError(
        f'{path} is neither a run directory nor one that holds runs; give '
        'directories that train.py or convmixer sweep wrote'
      )
    found |= {run: _read(run, run.name) for run in runs}
  return _with_content(_with_unique_names(list(found.values())))


def _list_runs(directory):
  """Returns the directories of runs in one, and those of runs to come."""
  if not directory.is_dir():
    return []
  runs = {path for path in directory.iterdir() if (path / CONFIG).exists()}
  records = directory / RECORDS
  if records.is_dir():
    runs |= {
      directory / path.name
      for path in records.iterdir()
      if (path / CONFIG).exists()
    }
  return sorted(runs, key=lambda path: _natural(path.name))


def _natural(name):
  """Returns what names are sorted by: numbers in them by their value."""
  return [
    (not part.isdigit(), int(part) if part.isdigit() else 0, part)
    for part in re.split(r'(\d+)', name)
  ]


def _read(directory, name):
  parent = directory.parent
  records = parent / RECORDS / directory.name
  if parent.name == TRIALS:
    records = parent.parent / RECORDS / TRIALS / directory.name
  problem = ''
  if (directory / CONFIG).exists():
    config = workdir_lib.read_config(directory)
    progress = read_progress(directory, config)
  else:
    config = workdir_lib.read_config(records)
    progress, problem = Progress(), _NOT_STARTED
  if not progress.is_complete:
    if (records / 'error.txt').exists():
      problem = f'failed: {(records / "error.txt").read_text().strip()}'
    elif not problem:
      problem = f'unfinished: {progress.share:.0%} of its steps'
  class_names = workdir_lib.read_class_names(directory)
  free = set(_FREE)
  with contextlib.suppress(UserError):  # a network that is not known here
    free |= set(models.free_keys(config.model))
  settings = {
    key: value for key, value in flatten(config).items() if key not in free
  }
  return RunResult(
    name,
    directory,
    config,
    settings,
    progress,
    problem,
    None if class_names is None else len(class_names),
    workdir_lib.read_data(directory),
  )


def _with_unique_names(runs):
  """Adds directories above to the names of runs that share one."""
  for depth in range(2, 5):
    names = [run.name for run in runs]
    if len({*names}) == len(names):
      break
    runs = [
      dataclasses.replace(run, name='/'.join(run.path.parts[-depth:]))
      if names.count(run.name) > 1
      else run
      for run in runs
    ]
  return runs


def _with_content(runs):
  """Adds the content of the data to settings that hide that it differs.

  Where the data is, does not count: it differs for runs of two machines. But so
  it does for folders of different images.
  """
  seen: dict[str, set[str]] = {}
  contents = [_content(run) for run in runs]
  for run, content in zip(runs, contents, strict=True):
    if content:
      seen.setdefault(_dataset_text(run), set()).add(content)
  return [
    dataclasses.replace(run, settings={**run.settings, _CONTENT: content})
    if len(seen.get(_dataset_text(run), ())) > 1
    else run
    for run, content in zip(runs, contents, strict=True)
  ]


def _content(run):
  """Returns a hash of the classes and images of a run; '' if not recorded."""
  if run.data is None:
    return ''
  data = run.data['class_names'], run.data['splits']
  text = json.dumps(data, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:8]


def _dataset_text(run):
  return repr(
    [item for item in run.settings.items() if item[0].startswith('dataset.')]
  )


def differing_keys(runs: Sequence[RunResult]) -> list[str]:
  """Returns the keys of the config, without the seed, that differ among runs.

  A key that only some networks have, differs if the others lack it.
  """
  keys: dict[str, None] = {}
  for run in runs:
    keys |= dict.fromkeys(run.settings)
  missing = object()
  return [
    key
    for key in keys
    if key != 'seed'
    and len({repr(run.settings.get(key, missing)) for run in runs}) > 1
  ]
