"""Compares runs: a row a group, with intervals over seeds."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from convmixer_jax.config import nearest
from convmixer_jax.errors import UserError
from convmixer_jax.sweeps import configs
from convmixer_jax.sweeps.pairing import (
  is_shared,
  pair,
  pairing_keys,
  refuse_copies,
)
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
    confounded: keys that the rows are not made by, whose values are not the
      same in all rows.
    eval_data: in words, the images that runs are evaluated on, if they differ.
  """

  rows: Sequence[Row]
  metric: str
  reference: str
  paired_by: Sequence[str]
  left_out: Sequence[RunResult]
  confounded: Sequence[str] = ()
  eval_data: Sequence[str] = ()


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
  if 'seed' in keys:
    raise UserError(
      '--by has seed, over which rows are averaged and paired; leave it out'
    )
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
  refuse_copies(found, others)
  paired_by = pairing_keys(found, others)
  pairs = [
    {pair(run, paired_by): run.progress.metrics[metric] for run in group}
    for group in found
  ]
  first = _find_reference(reference, names, found)
  rows = [
    _row(name, keys, group, metric, _difference(i, first, pairs), others)
    for i, (name, group) in enumerate(zip(names, found, strict=True))
  ]
  return Comparison(
    rows,
    metric,
    names[first],
    ['seed', *paired_by],
    left_out,
    [key for key in others if not is_shared(found, key)],
    _eval_data(complete),
  )


def _eval_data(runs):
  """Returns the data that runs are evaluated on in words, if it differs."""
  names = [
    f'{run.settings["dataset.name"]} {run.settings["dataset.eval_split"]}'
    for run in runs
  ]
  contents = [run.eval_content for run in runs]
  if all(contents):  # names may differ for the same images
    if len({*contents}) == 1:
      return []
    if len({*names}) == 1:
      names = [
        f'{name} {content[:8]}'
        for name, content in zip(names, contents, strict=True)
      ]
  found = list(dict.fromkeys(names))
  return found if len(found) > 1 else []


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
