"""The last lines of a run: accuracies, files, and the commands that follow."""

import contextlib
import math
import os
import shlex
import shutil
import sys

import ml_collections

from convmixer_jax import files
from convmixer_jax.checkpoints.metrics_table import read_table
from convmixer_jax.data.image_files import has_image_extension, is_hidden
from convmixer_jax.data.sources import FOLDER
from convmixer_jax.training.summary import aligned
from convmixer_jax.training.tasks import task_of

_FILES = ('checkpoints', 'metrics.csv', 'curves.png')


def describe_end(
  config: ml_collections.ConfigDict, workdir: str, command: str
) -> str:
  """Returns lines on a run that made its last step.

  Args:
    config: of the run.
    workdir: its directory.
    command: how the shell starts a command of this package, which a name is
      appended to.
  """
  directory = files.absolute_path(workdir)
  metric = task_of(config).main_metric
  rows = read_table(directory / 'metrics.csv')
  measured = [
    row for row in rows.values() if not math.isnan(row.get(metric, math.nan))
  ]
  lines = []
  if measured:  # of several equal ones the last, as of checkpoints
    best = max(measured, key=lambda row: (row[metric], row['step']))
    lines += [
      ('Best', _describe(metric, best)),
      ('Last', _describe(metric, measured[-1])),
    ]
  there = [name for name in _FILES if (directory / name).exists()]
  lines.append(('Files', f'in {directory}: {", ".join(there)}'))
  title = 'Next'
  for text in _next_commands(config, directory, command):
    lines.append((title, text))
    title = ''
  return aligned(lines)


def _describe(metric, row):
  return (
    f'{metric} {row[metric]:.4f} at step {row["step"]}, epoch {row["epoch"]:g}'
  )


def _next_commands(config, directory, command):
  """Returns commands for a shell in the working directory."""
  run = _path_from_here(directory)
  source = f'--source={shlex.quote(run)}'
  length = 'num_steps' if config.num_steps else 'num_epochs'
  longer = max(1, 2 * config[length])
  return [
    f'{command} evaluate {source} --output=evaluation',
    f'{command} predict {source} {shlex.quote(_an_image(config.dataset))}',
    f'{command} export {source} --output=exported',
    f'{command} train --workdir={shlex.quote(run)} --config.{length}={longer}',
    f'{_tensorboard()} --logdir={shlex.quote(run)}',
  ]


def _tensorboard() -> str:
  """Returns how the shell starts it, also from an environment not activated."""
  if shutil.which('tensorboard'):
    return 'tensorboard'
  return f'{shlex.quote(sys.executable)} -m tensorboard.main'


def _an_image(dataset: ml_collections.ConfigDict) -> str:
  """Returns the path of an image of the data; a name to replace if it has none.

  Only sets of folders have files of images.
  """
  if dataset.name == FOLDER:
    root = files.absolute_path(dataset.data_dir)
    for folder, folders, names in os.walk(root):
      folders.sort()
      for name in sorted(names):
        path = os.path.join(folder, name)
        is_plain = path.isascii() and path.isprintable()
        if is_plain and has_image_extension(name) and not is_hidden(path):
          return _path_from_here(path)
  return 'IMAGE.jpg'


def _path_from_here(path: str | os.PathLike) -> str:
  """Returns the relative path of what is below the working directory."""
  path = str(path)
  with contextlib.suppress(OSError):
    here = os.getcwd()
    if path.startswith(here + os.sep):
      return os.path.relpath(path, here)
  return path
