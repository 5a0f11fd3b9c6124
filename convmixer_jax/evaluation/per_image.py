"""Per-image predictions of a data set, and aggregate metrics."""

import contextlib
import dataclasses
import math
import time
from functools import partial
from typing import Any

import jax
import ml_collections
import numpy as np
import tqdm

from convmixer_jax.config import image_shape
from convmixer_jax.data import pipeline
from convmixer_jax.data.sources import Source
from convmixer_jax.distributed import sharding
from convmixer_jax.distributed.eval_pass import run_batches
from convmixer_jax.errors import UserError
from convmixer_jax.evaluation.calibration import Calibration, calibrate
from convmixer_jax.evaluation.protocols import Classes
from convmixer_jax.jax_settings import default_settings
from convmixer_jax.pretrained.trained_model import TrainedModel
from convmixer_jax.training.metrics import EvalMetrics
from convmixer_jax.training.steps import make_per_image_eval_step


@dataclasses.dataclass(frozen=True)
class PerImageResults:
  """Results of N images, in the order of the data set.

  Attributes:
    number: `[N]`, the image's number in its source.
    label: `[N]`, the right class. Where several are: the predicted one if it is
      among them, else the first.
    best: `[N, min(5, K)]`, the most probable classes, the first is predicted.
    probability: `[N]`, of the predicted class.
    loss: `[N]`, -log of the probability of the right classes.
    correct: `[N]`, whether the predicted class is right.
    correct_top5: `[N]`, whether one of the best five is.
    num_classes: K, the classes of the evaluation.
    seconds: of the pass, including reading and decoding what is not in memory,
      excluding compilation.
  """

  number: np.ndarray
  label: np.ndarray
  best: np.ndarray
  probability: np.ndarray
  loss: np.ndarray
  correct: np.ndarray
  correct_top5: np.ndarray
  num_classes: int
  seconds: float

  def metrics(self) -> dict[str, float]:
    """Returns `eval_loss`, `eval_accuracy` and `eval_accuracy_top5`."""
    means = EvalMetrics.single_from_model_output(
      loss=self.loss, correct=self.correct, correct_top5=self.correct_top5
    ).compute()
    return {name: float(value) for name, value in means.items()}

  def calibration(self) -> Calibration:
    """Returns how far confidence and accuracy differ."""
    return calibrate(self.probability, self.correct)

  def confusion(self) -> np.ndarray:
    """Returns `[P, 3]`: the label, the predicted class and number of images.

    Only pairs that occur, so at most N, in ascending order.
    """
    pairs, counts = np.unique(
      np.stack([self.label, self.best[:, 0]], axis=1).astype(np.int64),
      axis=0,
      return_counts=True,
    )
    return np.concatenate([pairs, counts[:, None]], axis=1)

  def per_class(self) -> list[dict[str, Any]]:
    """Returns a row for each class.

    `images`, their number; `accuracy` and `accuracy_top5`, fractions of these,
    None without images; `most_confused_with`, the wrong class that was most
    often predicted, None if none was, and `num_confused`, how often.
    """
    images, hits, hits_top5 = (
      np.bincount(
        self.label, weights=weights, minlength=self.num_classes
      ).tolist()
      for weights in (None, self.correct, self.correct_top5)
    )
    worst: dict[int, tuple[int, int]] = {}  # the wrong class, and how often
    for label, predicted, count in self.confusion().tolist():
      if label != predicted and count > worst.get(label, (0, 0))[1]:
        worst[label] = predicted, count
    rows = []
    for k, count in enumerate(images):
      other, num_confused = worst.get(k, (None, 0))
      rows.append(
        {
          'images': count,
          'accuracy': hits[k] / count if count else None,
          'accuracy_top5': hits_top5[k] / count if count else None,
          'most_confused_with': other,
          'num_confused': num_confused,
        }
      )
    return rows


def evaluate_per_image(
  trained: TrainedModel,
  source: Source,
  config: ml_collections.ConfigDict,
  classes: Classes,
) -> PerImageResults:
  """Evaluates every image of `source` once, on all devices of this process.

  Shows a bar on a terminal.

  Args:
    trained: the network.
    source: images with labels.
    config: `batch_size`, which the devices must divide, `dataset`, `augment`,
      `input` and `mesh`, as `trained.eval_config` returns them.
    classes: those of the evaluation.

  Raises:
    UserError: an image cannot be decoded, has a label that is not among the
      classes, or none has a right label; or outputs are not finite.
  """
  columns, seconds = evaluate_columns(trained, source, config, classes)
  return PerImageResults(
    **columns, num_classes=len(classes.names), seconds=seconds
  )


@default_settings()
def evaluate_columns(
  trained: TrainedModel,
  source: Source,
  config: ml_collections.ConfigDict,
  classes: Classes,
) -> tuple[dict[str, np.ndarray], float]:
  """Does the pass of `evaluate_per_image`.

  Returns:
    Arrays `[N, ...]` by name: `number`, `label`, and what
    `Task.evaluate_images` gives; and the seconds that it took.
  """
  mesh = sharding.create_mesh(config.mesh)
  variables = jax.device_put(trained.variables, sharding.replicated(mesh))
  label_shape = np.shape(source[0]['label'])
  dtype = pipeline.batch_dtype(source)
  eval_step = _compile(
    trained, variables, config, classes, mesh, label_shape, dtype
  )

  started = time.monotonic()
  made = pipeline.eval_batches(source, config)
  batches = tqdm.tqdm(
    made,
    'Evaluating',
    total=math.ceil(len(source) / config.batch_size),
    leave=False,
    disable=None,
    unit=' batches',
  )
  if not label_shape:
    batches = (_with_index_of_label(batch, classes) for batch in batches)
  with contextlib.closing(made):
    parts = [
      _with_one_label(batch['label'], results)
      for batch, results in run_batches(
        partial(eval_step, variables), batches, mesh, config.batch_size
      )
    ]
  seconds = time.monotonic() - started

  columns = {
    name: np.concatenate([part[name] for part in parts]) for name in parts[0]
  }
  (number,) = np.nonzero(columns.pop('mask'))
  if not len(number):
    raise UserError('no image of the data set has a right label')
  finite = np.isfinite(columns['loss'][number])
  if not finite.all():
    raise UserError(
      f'the outputs of {trained.origin} are not finite for '
      f'{(~finite).sum():,} of {len(finite):,} images; give other weights'
    )
  shown = {name: values[number] for name, values in columns.items()}
  return {'number': number, **shown}, seconds


def _compile(trained, variables, config, classes, mesh, label_shape, dtype):
  """Compiles the evaluation of a batch, so that its time does not count."""
  eval_step = jax.jit(
    make_per_image_eval_step(trained.model, config, classes.outputs),
    out_shardings=sharding.replicated(mesh),
  )
  batch_size = config.batch_size
  shapes = {
    'image': ((batch_size, *image_shape(config.dataset)), dtype),
    'label': ((batch_size, *label_shape), np.int32),
    'mask': ((batch_size,), np.float32),
  }
  split = sharding.batch_sharding(mesh)
  batch = {
    name: jax.ShapeDtypeStruct(shape, dtype, sharding=split)
    for name, (shape, dtype) in shapes.items()
  }
  return eval_step.lower(variables, batch).compile()


def _with_index_of_label(
  batch: dict[str, np.ndarray], classes: Classes
) -> dict[str, np.ndarray]:
  """Replaces each label by its index among the classes of the evaluation."""
  labels = batch['label']
  indices = classes.label_to_index[labels].astype(np.int32)
  if indices.min() < 0:
    raise UserError(
      f'an image has label {labels[indices.argmin()]}, which is not one of the '
      'classes that are evaluated'
    )
  return batch | {'label': indices}


def _with_one_label(
  label: np.ndarray, results: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Adds one right label for each image, if the results lack the labels.

  See `PerImageResults`.
  """
  if 'label' in results:  # all of them
    return results
  if label.ndim > 1:
    predicted = results['best'][:, 0]
    label = np.where(results['correct'], predicted, label.argmax(axis=-1))
  return results | {'label': label}
