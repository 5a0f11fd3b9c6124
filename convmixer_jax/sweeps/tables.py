"""Runs as tables of pandas: `convmixer_jax.load_runs(DIRECTORY)`."""

import os
from typing import TYPE_CHECKING, Any

from convmixer_jax.errors import UserError
from convmixer_jax.sweeps.results import differing_keys, find_runs

if TYPE_CHECKING:
  import pandas


def load_runs(
  *paths: str | os.PathLike[str], curves: bool = False
) -> 'pandas.DataFrame':
  """Returns a table of runs, or of all that they have measured.

  Args:
    *paths: run directories, or directories that hold some, as of a sweep.
    curves: whether to return a row for each row of a run's metrics.csv, in
      place of one for each run.

  Returns:
    The index is the name of the run. Columns are the keys of the config that
    differ, `seed`, and: of runs `state` ('complete', or why not), `epoch`, the
    metrics of the last evaluation, `images_per_sec` and `path`; of curves,
    those of metrics.csv.

  Raises:
    UserError: a directory has no runs, or pandas is not installed.
  """
  try:
    import pandas
  except ImportError as error:
    raise UserError(
      "load_runs needs pandas; install it: pip install 'convmixer-jax[pandas]'"
      ", or, in a checkout, pip install '.[pandas]'"
    ) from error
  runs = find_runs(paths)
  keys = differing_keys(runs)
  rows: list[dict[str, Any]] = []
  for run in runs:
    settings: dict[str, Any] = {'run': run.name}
    settings |= {key: run.settings.get(key) for key in keys}
    settings['seed'] = run.seed
    if curves:
      rows += [settings | dict(row) for row in run.progress.rows]
    else:
      rows.append(
        settings
        | {'state': run.problem or 'complete', 'epoch': run.progress.epoch}
        | dict(run.progress.metrics)
        | {'path': str(run.path)}
      )
  columns = None if rows else ['run']
  return pandas.DataFrame(rows, columns=columns).set_index('run')
