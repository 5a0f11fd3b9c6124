"""Metrics of training and evaluation steps, as clu metrics that merge."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from clu import metrics


@flax.struct.dataclass
class _Sum(metrics.Metric):
  """A sum over steps."""

  total: jax.Array

  @classmethod
  def empty(cls) -> '_Sum':
    return cls(jnp.zeros((), jnp.int32))

  @classmethod
  def from_model_output(cls, value: jax.Array, **_: Any) -> '_Sum':
    return cls(value.astype(jnp.int32))

  def merge(self, other: '_Sum') -> '_Sum':
    return type(self)(self.total + other.total)

  def compute(self) -> jax.Array:
    return self.total


@flax.struct.dataclass
class _MeanOfUpdates(metrics.Average):
  """A mean over the steps that were not skipped; nan if all were."""

  @classmethod
  def of(cls, name: str) -> type[metrics.Average]:
    """Returns the metric of the scalar output `name`."""
    return cls.from_fun(
      lambda skipped, **outputs: {
        'values': outputs[name][None],
        'mask': ~skipped[None],
      }
    )

  def compute(self) -> jax.Array | float:
    return super().compute() if self.count else float('nan')


@flax.struct.dataclass
class TrainMetrics(metrics.Collection):
  """Metrics of the steps since the last report.

  Means are over the updates made, `skipped_steps` counts those that were not
  (see `make_train_step`), the learning rate and the norm of the parameters are
  the last step's.
  """

  train_loss: _MeanOfUpdates.of('loss')
  train_accuracy: _MeanOfUpdates.of('correct')
  learning_rate: metrics.LastValue.from_output('learning_rate')
  gradient_norm: _MeanOfUpdates.of('gradient_norm')
  parameter_norm: metrics.LastValue.from_output('parameter_norm')
  update_norm: _MeanOfUpdates.of('update_norm')
  skipped_steps: _Sum.from_output('skipped')


@flax.struct.dataclass
class _F1OfUpdates(metrics.Metric):
  """Micro F1 over the steps that were not skipped; nan without decisions."""

  hits: jax.Array
  misses: jax.Array

  @classmethod
  def empty(cls) -> '_F1OfUpdates':
    return cls(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))

  @classmethod
  def from_model_output(
    cls,
    skipped: jax.Array,
    true_positives: jax.Array,
    false_positives: jax.Array,
    false_negatives: jax.Array,
    **_: Any,
  ) -> '_F1OfUpdates':
    misses = false_positives + false_negatives
    return cls(
      jnp.where(skipped, 0.0, true_positives), jnp.where(skipped, 0.0, misses)
    )

  def merge(self, other: '_F1OfUpdates') -> '_F1OfUpdates':
    return type(self)(self.hits + other.hits, self.misses + other.misses)

  def compute(self) -> jax.Array | float:
    total = 2 * self.hits + self.misses
    return 2 * self.hits / total if total else float('nan')


@flax.struct.dataclass
class MultiLabelTrainMetrics(metrics.Collection):
  """As `TrainMetrics`, of several labels an image.

  F1 is micro-averaged, with a threshold of 0.5.
  """

  train_loss: _MeanOfUpdates.of('loss')
  train_f1_micro: _F1OfUpdates
  learning_rate: metrics.LastValue.from_output('learning_rate')
  gradient_norm: _MeanOfUpdates.of('gradient_norm')
  parameter_norm: metrics.LastValue.from_output('parameter_norm')
  update_norm: _MeanOfUpdates.of('update_norm')
  skipped_steps: _Sum.from_output('skipped')


@flax.struct.dataclass
class EvalMetrics(metrics.Collection):
  """Means over images; padding is masked out."""

  eval_loss: metrics.Average.from_output('loss')
  eval_accuracy: metrics.Average.from_output('correct')
  eval_accuracy_top5: metrics.Average.from_output('correct_top5')
