"""What a network answers: one class an image, or any number of them.

Everything that differs between the two is in a `Task`; the steps, the loop,
the reports and the commands work through it.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from clu import metrics

from convmixer_jax.analysis import label_metrics
from convmixer_jax.training.metrics import (
  EvalMetrics,
  MultiLabelTrainMetrics,
  TrainMetrics,
)

PerImage = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Task:
  """Loss and metrics of a kind of answer.

  Attributes:
    losses: of logits `[B, K]` and targets `[B, K]` in [0, 1], the loss of each
      image, `[B]`.
    scores: by name, functions of logits and targets that return the mean of a
      score over the images of a training batch; inputs of `train_metrics`.
    train_metrics: the clu collection of a training step.
    evaluate_images: of logits `[B, K]`, and of `label` and `mask` of a batch,
      arrays whose first axis is B: `loss`, `mask` and what the metrics need.
    reduce: what of these a batch of an evaluation sends to the host; jitted.
    summarize: of these for all batches, on the host, the metrics by name.
    eval_names: names of these metrics; the first is the loss.
    main_metric: the one by which a checkpoint is the best.
  """

  losses: Callable[[jax.Array, jax.Array], jax.Array]
  scores: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]]
  train_metrics: type[metrics.Collection]
  evaluate_images: Callable[[jax.Array, jax.Array, jax.Array], PerImage]
  reduce: Callable[[PerImage], Any]
  summarize: Callable[[Iterable[Any]], dict[str, float]]
  eval_names: tuple[str, ...]
  main_metric: str

  def empty_window(self) -> metrics.Collection:
    """Returns the metrics of no training steps, on the host."""
    return jax.device_get(self.train_metrics.empty())


def task_of(config: ml_collections.ConfigDict) -> Task:
  """Returns the task of a config, whole or of `TrainedModel.eval_config`."""
  is_multi_label = config.dataset.get('multi_label', False)
  task = MULTI_LABEL if is_multi_label else ONE_CLASS
  if 'loss' not in config:  # which is of training
    return task
  if config.loss == 'binary_cross_entropy' and not is_multi_label:
    task = dataclasses.replace(ONE_CLASS, losses=binary_cross_entropy)
  threshold = config.bce_threshold
  if not threshold:
    return task

  def losses(logits, targets):
    return binary_cross_entropy(logits, jnp.float32(targets > threshold))

  return dataclasses.replace(task, losses=losses)


def _evaluate_one_class(logits, label, mask):
  """Compares the best classes with the right one, or with those that are."""
  _, best = jax.lax.top_k(logits, min(5, logits.shape[-1]))
  if label.ndim == 1:
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    hits = best == label[:, None]
  else:
    loss = -jax.nn.logsumexp(jax.nn.log_softmax(logits), b=label, axis=-1)
    hits = jnp.take_along_axis(label, best, axis=-1) > 0
    mask = mask * jnp.any(label, axis=-1)
  return {
    'loss': loss,
    'correct': hits[:, 0],
    'correct_top5': jnp.any(hits, axis=-1),
    'probability': jnp.max(jax.nn.softmax(logits), axis=-1),
    'mask': mask,
    'best': best,
  }


def _summarize_one_class(batches):
  total = jax.device_get(EvalMetrics.empty())
  for batch in batches:
    total = total.merge(batch)
  return {name: float(value) for name, value in total.compute().items()}


ONE_CLASS = Task(
  losses=optax.softmax_cross_entropy,
  scores={
    'correct': lambda logits, targets: jnp.mean(
      jnp.argmax(logits, -1) == jnp.argmax(targets, -1)
    )
  },
  train_metrics=TrainMetrics,
  evaluate_images=_evaluate_one_class,
  reduce=lambda images: EvalMetrics.single_from_model_output(**images),
  summarize=_summarize_one_class,
  eval_names=tuple(EvalMetrics.__annotations__),
  main_metric='eval_accuracy',
)


def binary_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Returns the mean over the classes, as PyTorch's BCEWithLogitsLoss.

  Args:
    logits: `[B, K]`.
    targets: `[B, K]`, from 0 to 1.

  Returns:
    `[B]`.
  """
  return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, targets), axis=-1)


def _count(decide):
  """Returns the mean over images of how many classes are decided so.

  Mixed targets count as those of the classes that have more than half.
  """
  return lambda logits, targets: jnp.mean(
    jnp.sum(decide(logits >= 0, targets > 0.5), axis=-1, dtype=jnp.float32)
  )


def _evaluate_multi_label(logits, label, mask):
  return {
    'loss': binary_cross_entropy(logits, label.astype(logits.dtype)),
    'logits': logits,
    'label': label.astype(jnp.uint8),
    'mask': mask,
  }


def _summarize_multi_label(batches):
  columns = collect(batches)
  return multi_label_metrics(
    columns['loss'],
    columns['logits'],
    columns['label'],
    label_metrics.DEFAULT_THRESHOLD,
  )


def collect(batches: Iterable[PerImage]) -> dict[str, np.ndarray]:
  """Returns the arrays of all batches joined, without the padding.

  Args:
    batches: of arrays on the host, such as `evaluate_images` returns; there is
      at least one.
  """
  batches = list(batches)
  columns = {
    name: np.concatenate([batch[name] for batch in batches])
    for name in batches[0]
  }
  shown = columns['mask'] > 0
  return {name: values[shown] for name, values in columns.items()}


def multi_label_metrics(
  loss: np.ndarray,
  logits: np.ndarray,
  labels: np.ndarray,
  thresholds: float | np.ndarray,
) -> dict[str, float]:
  """Returns the metrics of N images and K classes by name.

  Mean average precision is over the classes that an image has, macro F1 over
  those that an image has or is predicted to have; nan if there are none, or if
  an output is.

  Args:
    loss: `[N]`.
    logits: `[N, K]`.
    labels: `[N, K]` of 0 and 1.
    thresholds: of the probabilities, one or `[K]`.
  """
  probabilities = label_metrics.sigmoid(logits)
  f1 = label_metrics.count_f1(probabilities >= thresholds, labels)
  precision = label_metrics.average_precision(logits, labels)
  if np.isnan(logits).any():
    precision = np.full_like(precision, np.nan)
  return {
    'eval_loss': float(np.mean(loss, dtype=np.float64)),
    'eval_mean_average_precision': label_metrics.nanmean(precision),
    'eval_f1_micro': f1.micro(),
    'eval_f1_macro': f1.macro(),
  }


MULTI_LABEL = Task(
  losses=binary_cross_entropy,
  scores={
    'true_positives': _count(lambda predicted, label: predicted & label),
    'false_positives': _count(lambda predicted, label: predicted & ~label),
    'false_negatives': _count(lambda predicted, label: ~predicted & label),
  },
  train_metrics=MultiLabelTrainMetrics,
  evaluate_images=_evaluate_multi_label,
  reduce=lambda images: images,
  summarize=_summarize_multi_label,
  eval_names=(
    'eval_loss',
    'eval_mean_average_precision',
    'eval_f1_micro',
    'eval_f1_macro',
  ),
  main_metric='eval_mean_average_precision',
)
