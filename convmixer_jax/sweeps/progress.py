"""How far a run is, from the files of its directory alone."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import ml_collections
from etils import epath

from convmixer_jax.checkpoints.metrics_table import read_table
from convmixer_jax.checkpoints.step_directories import DIRECTORY, find_steps
from convmixer_jax.training.tasks import task_of


@dataclasses.dataclass(frozen=True)
class Progress:
  """What a run has done.

  Attributes:
    share: of its steps that are reported, from 0 to 1.
    epoch: last one that is reported.
    saved_step: of the newest checkpoint; 0 without one.
    is_complete: whether the last step is evaluated and saved, or there is no
      directory of checkpoints any more: who deletes it keeps the results.
    metrics: of the last evaluation, and speeds that were measured.
    rows: of metrics.csv.
  """

  share: float = 0.0
  epoch: float = 0.0
  saved_step: int = 0
  is_complete: bool = False
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
  rows: Sequence[Mapping[str, float]] = ()


def read_progress(
  directory: epath.Path, config: ml_collections.ConfigDict
) -> Progress:
  """Returns how far the run in a directory is, which need not exist.

  Args:
    directory: of the run.
    config: of the run.

  Raises:
    UserError: its metrics.csv is damaged.
  """
  rows = list(read_table(directory / 'metrics.csv').values())
  saved = find_steps(directory / DIRECTORY)
  saved_step = max(saved, default=0)
  if not rows:
    return Progress(saved_step=saved_step)
  metric = task_of(config).main_metric
  metrics: dict[str, float] = {}
  for row in rows:
    metrics |= {name: row[name] for name in row if name.startswith('eval_')}
  last = rows[-1]
  if config.num_steps:
    share = last['step'] / config.num_steps
  else:
    share = last['epoch'] / config.num_epochs
  # A run makes the directory of its checkpoints before its first step.
  is_saved = last['step'] in saved or not (directory / DIRECTORY).exists()
  is_complete = share >= 1 and metric in last and is_saved
  speeds = sorted(
    row['images_per_sec'] for row in rows if 'images_per_sec' in row
  )
  if speeds:
    metrics['images_per_sec'] = speeds[len(speeds) // 2]
  return Progress(
    min(share, 1.0), last['epoch'], saved_step, is_complete, metrics, rows
  )


def training_seconds(rows: Sequence[Mapping[str, float]]) -> float:
  """Returns how long the steps took by the measured speeds; nan if unknown."""
  seconds, before = 0.0, 0.0
  for row in rows:
    if row.get('steps_per_sec', 0) > 0:
      seconds += (row['step'] - before) / row['steps_per_sec']
      before = row['step']
  return seconds or math.nan
