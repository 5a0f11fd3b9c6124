"""What a network makes of each image of a set, and the figures of that."""

import dataclasses
import math
import time
from typing import Any

import jax
import ml_collections
import numpy as np
import tqdm
from flax import linen as nn

from convmixer_jax.data import pipeline
from convmixer_jax.data.sources import Source
from convmixer_jax.distributed import sharding
from convmixer_jax.errors import UserError
from convmixer_jax.evaluation.protocols import Classes
from convmixer_jax.training.metrics import EvalMetrics
from convmixer_jax.training.steps import make_score_step


@dataclasses.dataclass(frozen=True)
class Scores:
  """What was made of N images, in the order of the data set.

  Attributes:
    number: `[N]`, the image's number in its source.
    label: `[N]`, the right class. Where several are: the predicted one if it is
      among them, else the first.
    best: `[N, min(5, K)]`, the most probable classes, the first is predicted.
    probability: `[N]`, of the predicted class.
    loss: `[N]`, -log of the probability of what is right.
    correct: `[N]`, whether the predicted class is right.
    correct_top5: `[N]`, whether one of the best five is.
    num_classes: K, those that take part.
    seconds: of the pass, reading and decoding what is not in memory included,
      compiling not.
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

  def confusion(self) -> np.ndarray:
    """Returns `[K, K]`: images of class (row) that were taken for (column)."""
    counts = np.zeros((self.num_classes, self.num_classes), np.int64)
    np.add.at(counts, (self.label, self.best[:, 0]), 1)
    return counts

  def per_class(self) -> list[dict[str, Any]]:
    """Returns a row for each class.

    `images`; of these the shares `accuracy` and `accuracy_top5`, None without
    images; `taken_for`, the class they were most often mistaken for, `mistaken`
    times, None if never.
    """
    confusion = self.confusion()
    images = confusion.sum(axis=1)
    hits = np.bincount(
      self.label, weights=self.correct_top5, minlength=self.num_classes
    )
    mistaken = confusion - np.diag(np.diag(confusion))
    rows = []
    for k, count in enumerate(images.tolist()):
      worst = int(mistaken[k].argmax())
      rows.append(
        {
          'images': count,
          'accuracy': confusion[k, k].item() / count if count else None,
          'accuracy_top5': hits[k].item() / count if count else None,
          'taken_for': worst if mistaken[k, worst] else None,
          'mistaken': mistaken[k, worst].item(),
        }
      )
    return rows


def score_images(
  model: nn.Module,
  variables: dict[str, Any],
  source: Source,
  config: ml_collections.ConfigDict,
  classes: Classes,
) -> Scores:
  """Scores every image of `source` once, on all devices of this process.

  Shows a bar on a terminal.

  Args:
    model: the network.
    variables: its `params` and `batch_stats`.
    source: images with labels.
    config: `batch_size`, which the devices must divide, `dataset`, `augment`,
      `input` and `mesh`, as in training.
    classes: which take part.

  Raises:
    UserError: an image cannot be decoded, has a label that takes no part, or
      none has a right label.
  """
  mesh = sharding.create_mesh(config.mesh)
  everywhere = sharding.replicated(mesh)
  variables = jax.device_put(variables, everywhere)
  score = jax.jit(
    make_score_step(model, config, classes.outputs), out_shardings=everywhere
  )
  size, batch_size = config.dataset.image_size, config.batch_size
  label_shape = np.shape(source[0]['label'])
  shapes = {
    'image': ((batch_size, size, size, 3), np.uint8),
    'label': ((batch_size, *label_shape), np.int32),
    'mask': ((batch_size,), np.float32),
  }
  split = sharding.batch_sharding(mesh)
  score = score.lower(
    variables,
    {
      name: jax.ShapeDtypeStruct(shape, dtype, sharding=split)
      for name, (shape, dtype) in shapes.items()
    },
  ).compile()

  started = time.monotonic()
  batches = tqdm.tqdm(
    pipeline.eval_batches(source, config),
    'Evaluating',
    total=math.ceil(len(source) / batch_size),
    leave=False,
    disable=None,
    unit=' batches',
  )
  parts, pending = [], None
  for batch in batches:
    if not label_shape:
      batch['label'] = _place(batch['label'], classes)
    scores = score(variables, sharding.to_global(batch, mesh))
    if pending is not None:  # fetched when the next one is under way
      parts.append(_fetch(*pending))
    pending = scores, batch['label']
  parts.append(_fetch(*pending))
  seconds = time.monotonic() - started

  columns = {
    name: np.concatenate([part[name] for part in parts]) for name in parts[0]
  }
  (number,) = np.nonzero(columns.pop('mask'))
  if not len(number):
    raise UserError('no image of the data set has a right label')
  return Scores(
    number=number,
    **{name: values[number] for name, values in columns.items()},
    num_classes=len(classes.names),
    seconds=seconds,
  )


def _place(labels: np.ndarray, classes: Classes) -> np.ndarray:
  """Returns the place of each label among the classes that take part."""
  places = classes.places[labels].astype(np.int32)
  if places.min() < 0:
    raise UserError(
      f'an image has label {labels[places.argmin()]}, which takes no part'
    )
  return places


def _fetch(
  scores: dict[str, jax.Array], label: np.ndarray
) -> dict[str, np.ndarray]:
  """Takes the scores of a batch from the device; adds a label for each."""
  scores = jax.device_get(scores)
  if label.ndim == 2:
    predicted = scores['best'][:, 0]
    label = np.where(scores['correct'], predicted, label.argmax(axis=-1))
  return scores | {'label': label}
