"""Compares runs: a row a group, with intervals over seeds."""

import dataclasses
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from convmixer_jax.config import nearest
from convmixer_jax.errors import UserError
from convmixer_jax.sweeps import configs
from convmixer_jax.sweeps.results import RunResult, differing_keys
from convmixer_jax.sweeps.statistics import (
  Interval,
  mean_interval,
  paired_difference,
)
from convmixer_jax.training.tasks import task_of

_SEED = re.compile(r'-seed\d+$')


@dataclasses.dataclass(frozen=True)
class Row:
  """Runs that are compared as one.

  Attributes:
    name: that all names of its runs begin with, or its settings.
    settings: by key that the groups differ in; '' for a key it lacks.
    runs: of the row.
    parameters: fewest and most of its networks; None if unknown.
    macs: the same for an image.
    images_per_sec: mean of the training speeds; None if not measured.
    metric: mean and interval.
    difference: to the reference row; None for that row itself.
    curve: epochs, and the metric at each.
    mixed: keys besides the seed in which its runs differ.
  """

  name: str
  settings: Mapping[str, Any]
  runs: Sequence[RunResult]
  parameters: tuple[int, int] | None
  macs: tuple[int, int] | None
  images_per_sec: float | None
  metric: Interval
  difference: Interval | None
  curve: Sequence[tuple[float, Interval]]
  mixed: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """The rows of a comparison.

  Attributes:
    rows: in the order in which their first runs were found.
    metric: that is compared, such as 'eval_accuracy'.
    reference: name of the row that the others are compared with.
    paired_by: 'seed', and further keys if the runs of a row differ in more.
    left_out: runs that are not complete.
  """

  rows: Sequence[Row]
  metric: str
  reference: str
  paired_by: Sequence[str]
  left_out: Sequence[RunResult]


def compare(
  runs: Sequence[RunResult],
  by: Sequence[str] = (),
  reference: str | None = None,
  metric: str | None = None,
) -> Comparison:
  """Compares the complete ones among some runs, by their last evaluation.

  Args:
    runs: from `find_runs`.
    by: keys of the config whose values make a row; default: all that differ,
      but for the seed.
    reference: row to compare with, by its name or by the name of one of its
      runs; default: the first.
    metric: that is compared; default: the accuracy, or what takes its place.

  Raises:
    UserError: no run is complete, a key or the reference does not exist, two
      runs are the same experiment, or the metric was not measured.
  """
  complete = [run for run in runs if not run.problem]
  left_out = [run for run in runs if run.problem]
  if not complete:
    states = '; '.join(f'{run.name} {run.problem}' for run in left_out[:3])
    raise UserError(f'no run is complete: {states}; train them to their end')
  differing = differing_keys(complete)
  known = {key for run in complete for key in run.settings}
  for key in by:
    if key.removeprefix('config.') not in known:
      raise UserError(
        f'--by has {key!r}, which is not a key of the configs; did you mean '
        f'{nearest(key, known)}?'
      )
  keys = [key.removeprefix('config.') for key in by] or differing
  metric = metric or task_of(complete[0].config).main_metric
  for run in complete:
    if metric not in run.progress.metrics:
      raise UserError(
        f'{run.name} has no {metric}; give one of '
        f'{", ".join(run.progress.metrics)}'
      )
  groups: dict[tuple[str, ...], list[RunResult]] = {}
  for run in complete:
    group = tuple(repr(run.settings.get(key, '')) for key in keys)
    groups.setdefault(group, []).append(run)
  others = [key for key in differing if key not in keys]
  found = list(groups.values())
  names = _names(found, keys)
  _refuse_copies(found, others)
  paired_by = _pairing_keys(found, others)
  pairs = [
    {_pair(run, paired_by): run.progress.metrics[metric] for run in group}
    for group in found
  ]
  first = _find_reference(reference, names, found)
  rows = [
    _row(name, keys, group, metric, _difference(i, first, pairs), others)
    for i, (name, group) in enumerate(zip(names, found, strict=True))
  ]
  return Comparison(rows, metric, names[first], ['seed', *paired_by], left_out)


def _pair(run: RunResult, keys: Sequence[str]) -> Hashable:
  """Returns what runs of two rows have in common that are compared."""
  return run.seed, *(repr(run.settings.get(key)) for key in keys)


def _refuse_copies(
  groups: Sequence[Sequence[RunResult]], keys: Sequence[str]
) -> None:
  """Raises UserError if two runs of a row differ in nothing."""
  for group in groups:
    seen: dict[Hashable, str] = {}
    for run in group:
      if other := seen.get(_pair(run, keys)):
        raise UserError(
          f'{other} and {run.name} have the same config and seed, so they are '
          'one experiment; leave one of them out'
        )
      seen[_pair(run, keys)] = run.name


def _pairing_keys(
  groups: Sequence[Sequence[RunResult]], keys: Sequence[str]
) -> list[str]:
  """Returns the keys that, with the seed, tell the runs of each row apart.

  Those that have the same values in all rows are taken first: a learning rate
  that was chosen for each row is not what its runs have in common with others.
  """

  def num_pairs(chosen):
    return sum(len({_pair(run, chosen) for run in group}) for group in groups)

  def is_shared(key):
    found = [{repr(run.settings.get(key)) for run in group} for group in groups]
    return all(values == found[0] for values in found)

  chosen: list[str] = []
  for key in sorted(keys, key=lambda key: not is_shared(key)):
    if num_pairs([*chosen, key]) > num_pairs(chosen):
      chosen.append(key)
  return chosen


def _difference(index, reference, pairs):
  if index == reference:
    return None
  return paired_difference(pairs[index], pairs[reference])


def _find_reference(reference, names, groups):
  """Returns the number of the row to compare with."""
  if reference is None:
    return 0
  for i, (name, group) in enumerate(zip(names, groups, strict=True)):
    if reference in (name, *(run.name for run in group)):
      return i
  raise UserError(
    f'--reference={reference} is not a row; there are {", ".join(names)}'
  )


def _names(groups, keys):
  """Returns a name for each group: that of its runs, or its settings."""
  names = []
  for group in groups:
    stripped = {_SEED.sub('', run.name) for run in group}
    if len(stripped) == 1:
      names += stripped
      continue
    settings = (
      f'{key.rpartition(".")[2]}={group[0].settings.get(key, "")}'
      for key in keys
    )
    names.append(', '.join(settings) or 'all runs')
  if len({*names}) < len(names):  # of runs of several directories
    names = [
      ', '.join(f'{key}={group[0].settings.get(key, "")}' for key in keys)
      for group in groups
    ]
  return names


def _row(name, keys, group, metric, difference, others):
  sizes = [_size(run) for run in group]
  known = [size for size in sizes if size is not None]
  speeds = [
    run.progress.metrics['images_per_sec']
    for run in group
    if 'images_per_sec' in run.progress.metrics
  ]
  parameters = [size.parameters for size in known]
  macs = [size.macs for size in known]
  return Row(
    name,
    {key: group[0].settings.get(key, '') for key in keys},
    group,
    (min(parameters), max(parameters)) if known else None,
    (min(macs), max(macs)) if known else None,
    math.fsum(speeds) / len(speeds) if speeds else None,
    mean_interval([run.progress.metrics[metric] for run in group]),
    difference,
    _curve(group, metric),
    [
      key
      for key in others
      if len({repr(run.settings.get(key)) for run in group}) > 1
    ],
  )


def _size(run):
  """Returns the size of a run's network; None if it cannot be created here."""
  if run.num_classes is None:
    return None
  try:
    return configs.network_size(run.config, run.num_classes)
  except UserError:
    return None


def _curve(group, metric):
  """Returns the metric by epoch, at the epochs that all runs have."""
  curves = [
    {row['epoch']: row[metric] for row in run.progress.rows if metric in row}
    for run in group
  ]
  common = set(curves[0]).intersection(*curves[1:])
  return [
    (epoch, mean_interval([curve[epoch] for curve in curves]))
    for epoch in sorted(common)
  ]
