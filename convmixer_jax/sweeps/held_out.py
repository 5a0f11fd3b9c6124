"""Keeps the images that runs are compared on out of the trials of a choice."""

import functools
from itertools import product

import ml_collections

from convmixer_jax.checkpoints.workdir import config_from_json
from convmixer_jax.data import slices, sources
from convmixer_jax.data.identity import shared_examples
from convmixer_jax.errors import UserError

_CURE = (
  "set dataset.train_split and dataset.eval_split in the Choice's overrides to "
  "two parts of the training images, such as 'train[:90%]' and 'train[90%:]'"
)


def check_names(
  final: ml_collections.ConfigDict, trial: ml_collections.ConfigDict, key: str
) -> None:
  """Checks the names of splits, which needs no data.

  Args:
    final: `config.dataset` of the runs that are compared.
    trial: that of a trial.
    key: that is chosen.

  Raises:
    UserError: a whole split is used by both.
  """
  used = '+'.join((trial.train_split, trial.eval_split))
  try:
    pairs = [*product(slices.parse(final.eval_split), slices.parse(used))]
  except UserError:  # TFDS knows more, such as shards
    return
  for one, other in pairs:
    is_whole = not (one.is_sliced and other.is_sliced)
    if one.split == other.split and is_whole:
      raise UserError(
        f'it would choose {key} by images of {one.split!r}, on which the '
        f'runs are compared; {_CURE}'
      )


def check_images(
  final: ml_collections.ConfigDict, trial: ml_collections.ConfigDict, key: str
) -> None:
  """Checks which images the splits have; see `check_names`.

  Raises:
    UserError: a trial would see images that the runs are compared on, or be
      evaluated on those that it is trained on; or the data cannot be opened.
  """
  compared, own = _count_shared(
    final.to_json_best_effort(), trial.to_json_best_effort()
  )
  if compared:
    raise UserError(
      f'it would choose {key} by {compared:,} of the images on which the runs '
      f'are compared ({final.eval_split!r}); {_CURE}'
    )
  if own:
    raise UserError(
      f'{own:,} images of {trial.eval_split!r}, by which it would choose '
      f'{key}, are in {trial.train_split!r}, too; {_CURE}'
    )


@functools.cache
def _count_shared(final_json, trial_json):
  """Returns images of a trial that runs are compared on; and those in both."""
  final, trial = config_from_json(final_json), config_from_json(trial_json)
  train, evaluated = (
    sources.open_source(trial, split)
    for split in (trial.train_split, trial.eval_split)
  )
  compared = 0
  if (final.name, final.data_dir) == (trial.name, trial.data_dir):
    test = sources.open_source(final, final.eval_split)
    compared = shared_examples(train, test) + shared_examples(evaluated, test)
  return compared, shared_examples(train, evaluated)
