"""Results of an evaluation of several labels an image, and its thresholds."""

import dataclasses
import math
from typing import Any

import ml_collections
import numpy as np

from convmixer_jax import files
from convmixer_jax.analysis import label_metrics
from convmixer_jax.checkpoints.train_state import evaluates_ema
from convmixer_jax.data import label_counts
from convmixer_jax.data.identity import shared_examples
from convmixer_jax.data.sources import FOLDER, Source
from convmixer_jax.errors import UserError
from convmixer_jax.evaluation import training_data
from convmixer_jax.evaluation.per_image import evaluate_columns
from convmixer_jax.evaluation.protocols import Classes, open_test_set
from convmixer_jax.pretrained import thresholds
from convmixer_jax.pretrained.trained_model import TrainedModel
from convmixer_jax.training.tasks import multi_label_metrics

SAME_SPLIT = (
  'WARNING: the thresholds were chosen on this split, so F1 on new images may '
  'be lower; name another one as --split'
)


@dataclasses.dataclass(frozen=True)
class MultiLabelResults:
  """Results of N images and K classes, in the order of the data set.

  Attributes:
    number: `[N]`, the image's number in its source.
    label: `[N, K]` of 0 and 1, the classes that the image has.
    logits: `[N, K]`.
    loss: `[N]`, the binary cross-entropy, mean over the classes.
    thresholds: `[K]`, the probability from which a class is predicted.
    seconds: of the pass, excluding compilation.
  """

  number: np.ndarray
  label: np.ndarray
  logits: np.ndarray
  loss: np.ndarray
  thresholds: np.ndarray
  seconds: float

  def probabilities(self) -> np.ndarray:
    """Returns float64 `[N, K]`."""
    return label_metrics.sigmoid(self.logits)

  def predicted(self) -> np.ndarray:
    """Returns bool `[N, K]`, the classes that each image is given."""
    return self.probabilities() >= self.thresholds

  def metrics(self) -> dict[str, float]:
    """Returns the metrics by name, as training measures them.

    But F1 is by these thresholds, there by 0.5.
    """
    return multi_label_metrics(
      self.loss, self.logits, self.label, self.thresholds
    )

  def per_class(self) -> list[dict[str, Any]]:
    """Returns a row for each class; None for what is not defined.

    `images`, how many have the class; `average_precision`, `f1`, `precision`
    and `recall`; `predicted`, how many are given it; and its `threshold`.
    """
    f1 = label_metrics.count_f1(self.predicted(), self.label)
    columns = {
      'images': self.label.sum(axis=0, dtype=np.int64),
      'average_precision': label_metrics.average_precision(
        self.logits, self.label
      ),
      'f1': f1.per_class(),
      'precision': f1.precision(),
      'recall': f1.recall(),
      'predicted': f1.true_positives + f1.false_positives,
      'threshold': self.thresholds,
    }
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
      {
        name: None if math.isnan(value) else value
        for name, value in zip(columns, row, strict=True)
      }
      for row in values
    ]


def evaluate_multi_label(
  trained: TrainedModel,
  source: Source,
  config: ml_collections.ConfigDict,
  classes: Classes,
) -> MultiLabelResults:
  """Evaluates every image of `source` once; see `evaluate_per_image`.

  Raises:
    UserError: see `evaluate_per_image`; or no image has any of the classes.
  """
  label_counts.require_memory(source)
  columns, seconds = evaluate_columns(trained, source, config, classes)
  if not columns['label'].any():
    raise UserError('no image of the data set has any of the classes')
  return MultiLabelResults(
    **columns,
    thresholds=trained.class_thresholds()[classes.outputs],
    seconds=seconds,
  )


def choose_thresholds(
  trained: TrainedModel, results: MultiLabelResults, classes: Classes
) -> tuple[float, ...]:
  """Returns the thresholds of all outputs that have the highest F1.

  An output that stands for none of the classes keeps its own.
  """
  values = trained.class_thresholds()
  values[classes.outputs] = label_metrics.choose_thresholds(
    results.probabilities(), results.label
  )
  return tuple(values.tolist())


def open_threshold_split(
  trained: TrainedModel, dataset: ml_collections.ConfigDict, split: str
) -> tuple[Source, Classes]:
  """Opens the split to choose thresholds on.

  Args:
    trained: the network.
    dataset: `config.dataset` of the evaluation.
    split: of it.

  Raises:
    UserError: the network gives one class an image, or is not of a run; or the
      split cannot be opened.
  """
  if not trained.multi_label:
    raise UserError(
      f'--choose_thresholds={split} is for several labels an image, and '
      f'{trained.source} gives one; leave it out'
    )
  if trained.step is None:
    raise UserError(
      f'--choose_thresholds={split} stores thresholds in a run, and '
      f'{trained.source} is not one; make one of it with: convmixer convert '
      'SOURCE DIRECTORY'
    )
  if trained.config and trained.ema != evaluates_ema(trained.config):
    flag = '--ema' if trained.ema else '--noema'
    raise UserError(
      f'--choose_thresholds={split} stores thresholds for the weights that '
      f'{trained.source} evaluates; leave out {flag}'
    )
  return open_test_set(dataset, split, trained.class_names, trained.num_classes)


def name_split(dataset: ml_collections.ConfigDict, split: str) -> str:
  """Returns what thresholds say that they were chosen on.

  Args:
    dataset: `config.dataset` of the evaluation.
    split: of it.
  """
  name = dataset.data_dir if dataset.name == FOLDER else dataset.name
  return f'{name} {split}'


def threshold_notes(
  trained: TrainedModel,
  dataset: ml_collections.ConfigDict,
  chosen_on: Source,
  scored: Source,
) -> list[str]:
  """Returns warnings if thresholds are chosen on images seen elsewhere."""
  notes = []
  if shared := shared_examples(chosen_on, scored):
    notes.append(
      f'WARNING: {shared:,} of the {len(scored):,} images that are scored are '
      'those that the thresholds are chosen on, so F1 on new images may be '
      'lower; name another split as --split or --choose_thresholds'
    )
  trained_on = {} if trained.config is None else trained.config.dataset
  if trained_on.get('name') == dataset.name:
    train_split = trained_on.get('train_split', '')
    overlap = training_data.overlap_warning(chosen_on, dataset, train_split)
    if overlap:
      notes.append(
        'WARNING: the thresholds are chosen on images that the network was '
        f'trained on ({train_split!r}), of which it is too sure; name another '
        'split as --choose_thresholds'
      )
  return notes


def store_thresholds(
  trained: TrainedModel,
  source: Source,
  classes: Classes,
  config: ml_collections.ConfigDict,
  split: str,
) -> TrainedModel:
  """Chooses thresholds, writes them into the run, and returns it with them.

  Args:
    trained: a network of a run.
    source: the split to choose on, from `open_threshold_split`.
    classes: of it.
    config: as `trained.eval_config` returns it.
    split: its name.

  Raises:
    UserError: see `evaluate_multi_label`; or the run cannot be written to.
  """
  results = evaluate_multi_label(trained, source, config, classes)
  values = choose_thresholds(trained, results, classes)
  chosen_on = name_split(config.dataset, split)
  thresholds.write(
    files.absolute_path(trained.source),
    int(trained.step or 0),
    thresholds.Thresholds(values, chosen_on),
  )
  return dataclasses.replace(
    trained, thresholds=values, thresholds_from=chosen_on
  )
