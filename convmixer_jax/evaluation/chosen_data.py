"""Chooses what to evaluate on: a data set that is named, or the run's own."""

import os
from typing import Any, NamedTuple

import ml_collections

from convmixer_jax.data.sources import FOLDER
from convmixer_jax.errors import UserError
from convmixer_jax.evaluation.protocols import default_split


class ChosenData(NamedTuple):
  """What to evaluate on.

  Attributes:
    split: of the data set.
    may_be_known: whether it may be the data set of training, by its name; of a
      folder, by its path.
  """

  split: str
  may_be_known: bool


def choose_data(
  dataset: ml_collections.ConfigDict,
  run_config: ml_collections.ConfigDict | None,
  *,
  name: str | None,
  data_dir: str | None,
  split: str | None,
) -> ChosenData:
  """Fills in `config.dataset`, and returns the split.

  Args:
    dataset: `config.dataset` of the evaluation, to which name, directory and
      rotation are written.
    run_config: the config of the run, None for weights without one.
    name: of the data set, or the path of a folder of images; None for the
      run's own.
    data_dir: None for the run's own.
    split: None for the run's own, or else the held-out one.

  Raises:
    UserError: there is no name, or the data set cannot be opened.
  """
  of_run: Any = {} if run_config is None else run_config.dataset
  run_name = of_run.get('name', '')  # '' in converted weights
  if not name and not run_name:
    raise UserError('--dataset=NAME is needed: weights do not name a data set')
  if name and data_dir is None and is_directory(name):
    name, data_dir = FOLDER, name
  dataset.name = name or run_name
  dataset.data_dir = (
    of_run.get('data_dir', '') if data_dir is None else data_dir
  )
  dataset.exif_rotate = of_run.get('exif_rotate', dataset.exif_rotate)
  is_run = dataset.name == run_name
  if name == FOLDER and is_run:
    is_run = _real(dataset.data_dir) == _real(of_run.get('data_dir', ''))
  if split is None:
    split = of_run.eval_split if is_run else None
  if split is None:
    split = default_split(dataset.name, dataset.data_dir)
  return ChosenData(split, is_run or dataset.name != FOLDER)


def is_directory(name: str) -> bool:
  """Returns whether a name is the path of a directory."""
  return os.path.isdir(os.path.expanduser(name))


def _real(path):
  return os.path.realpath(os.path.expanduser(path))
