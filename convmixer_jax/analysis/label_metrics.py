"""Metrics of several labels an image: average precision, F1, thresholds.

Computed on the host in float64 from the outputs for all images, so they are
exact, and the same for any number of devices and processes.
"""

import dataclasses

import numpy as np

DEFAULT_THRESHOLD = 0.5


@dataclasses.dataclass(frozen=True)
class F1:
  """Counts of K classes, and what follows from them.

  Attributes:
    true_positives: int `[K]`, images that have the class and are predicted to.
    false_positives: int `[K]`, images predicted to have it, that do not.
    false_negatives: int `[K]`, images that have it and are not predicted to.
  """

  true_positives: np.ndarray
  false_positives: np.ndarray
  false_negatives: np.ndarray

  def precision(self) -> np.ndarray:
    """Returns `[K]`; nan for a class that is never predicted."""
    return _ratio(
      self.true_positives, self.true_positives + self.false_positives
    )

  def recall(self) -> np.ndarray:
    """Returns `[K]`; nan for a class that no image has."""
    return _ratio(
      self.true_positives, self.true_positives + self.false_negatives
    )

  def per_class(self) -> np.ndarray:
    """Returns F1 `[K]`; nan for a class that no image has or is given."""
    return _f1(self.true_positives, self.false_positives, self.false_negatives)

  def macro(self) -> float:
    """Returns the mean of `per_class` over classes for which it is defined."""
    return nanmean(self.per_class())

  def micro(self) -> float:
    """Returns F1 of all decisions together."""
    return float(
      _f1(
        self.true_positives.sum(),
        self.false_positives.sum(),
        self.false_negatives.sum(),
      )
    )


def sigmoid(logits: np.ndarray) -> np.ndarray:
  """Returns probabilities in float64, of logits of any shape."""
  logits = np.asarray(logits, np.float64)
  small = np.exp(-np.abs(logits))  # which cannot overflow
  return np.where(logits >= 0, 1, small) / (1 + small)


def average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns the average precision of each class, without interpolation.

  The sum over distinct scores, from the highest, of the precision of the images
  that score at least as much, times by how much recall grows there.

  Args:
    scores: `[N, K]`, higher for images that are thought to have the class.
    labels: `[N, K]`, whether they have it.

  Returns:
    float64 `[K]`; nan for a class that no image has, or with scores of nan.
  """
  result = np.full(labels.shape[1], np.nan)
  for k in range(len(result)):
    if np.isnan(scores[:, k]).any():
      continue
    _, hits, predicted = _cumulative_counts(scores[:, k], labels[:, k])
    if hits[-1]:
      gains = np.diff(hits, prepend=0)
      result[k] = np.sum(gains * (hits / predicted)) / hits[-1]
  return result


def count_f1(predicted: np.ndarray, labels: np.ndarray) -> F1:
  """Counts decisions.

  Args:
    predicted: bool `[N, K]`.
    labels: `[N, K]` of 0 and 1, or bool.
  """
  labels = labels.astype(bool)
  return F1(
    np.sum(predicted & labels, axis=0),
    np.sum(predicted & ~labels, axis=0),
    np.sum(~predicted & labels, axis=0),
  )


def choose_thresholds(
  probabilities: np.ndarray, labels: np.ndarray
) -> np.ndarray:
  """Returns for each class the threshold with the highest F1.

  It is in the middle between the two neighbouring probabilities, so that
  rounding does not move an image across. Of equally good ones it is the
  highest.

  Args:
    probabilities: `[N, K]`.
    labels: `[N, K]`, whether the images have the class.

  Returns:
    float64 `[K]`; 0.5 for a class that no image has.
  """
  result = np.full(labels.shape[1], DEFAULT_THRESHOLD)
  for k in range(len(result)):
    values, hits, predicted = _cumulative_counts(
      probabilities[:, k], labels[:, k]
    )
    if not hits[-1]:
      continue
    best = np.argmax(2 * hits / (predicted + hits[-1]))
    below = values[best + 1] if best + 1 < len(values) else 0.0
    result[k] = (values[best] + below) / 2
  return result


def nanmean(values: np.ndarray) -> float:
  """Returns the mean without nan; nan if there is nothing else."""
  values = values[~np.isnan(values)]
  return float(np.mean(values)) if len(values) else float('nan')


def _cumulative_counts(scores, labels):
  """Returns distinct scores, falling; for each, hits and images down to it."""
  order = np.argsort(-scores, kind='stable')
  scores, labels = scores[order].astype(np.float64), labels[order] > 0
  last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
  return scores[last], np.cumsum(labels)[last], last + 1


def _f1(hits, wrong, missed):
  return _ratio(2 * hits, 2 * hits + wrong + missed)


def _ratio(part, whole):
  with np.errstate(invalid='ignore', divide='ignore'):
    return np.float64(part) / np.float64(whole)
