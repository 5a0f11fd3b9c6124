"""Compares the data of an evaluation with what the network was trained on."""

from collections.abc import Sequence

import ml_collections

from convmixer_jax.data import identity
from convmixer_jax.data.sources import Source, open_source
from convmixer_jax.errors import UserError
from convmixer_jax.pretrained.trained_model import TrainedModel


def check_same_data(
  trained: TrainedModel, source: Source, *, is_default: bool
) -> Sequence[str] | None:
  """Compares a data set with the one that the network was trained on.

  Args:
    trained: the network.
    source: the split to evaluate on.
    is_default: whether it is the run's own, because no other one was named.

  Returns:
    What differs, in words; None if it is another data set, or if nothing is
    known of the one of training.

  Raises:
    UserError: the run's own data set was changed after training.
  """
  recorded = trained.data
  if recorded is None:
    return None
  if not is_default and recorded['name'] != source.origin.name:
    return None
  changed = identity.differences(recorded, identity.identify(source))
  if changed and is_default:
    name = recorded['name']
    raise UserError(
      f'the data set of {trained.source} was changed after training: '
      f'{", ".join(changed)}; give the directory of the old one as '
      f'--data_dir=DIR, or --dataset={name} to evaluate on it as it is now'
    )
  return changed


def overlap_warning(
  source: Source, dataset: ml_collections.ConfigDict, train_split: str
) -> str | None:
  """Returns a warning if a split has examples of the training split.

  Args:
    source: the split.
    dataset: `config.dataset` of the evaluation, on the set of training.
    train_split: of the run.
  """
  try:
    train = open_source(dataset, train_split)
  except UserError:  # this one may be elsewhere, or have other splits
    return None
  return identity.overlap_warning(train, source)
