"""Calibration: whether probabilities are as often right as they say."""

import dataclasses
from typing import Any

import numpy as np

BINS = 15


@dataclasses.dataclass(frozen=True)
class Calibration:
  """Confidence and accuracy of N predictions, in bins of equal width.

  The confidence of a prediction is the probability of its class. Bin m of M has
  those from (m - 1) / M, excluded, to m / M, included.

  Attributes:
    images: `[M]`, number of predictions n_m in each bin.
    accuracy: `[M]`, which fraction of them is right; 0 in an empty bin.
    confidence: `[M]`, their mean confidence; 0 in an empty bin.
  """

  images: np.ndarray
  accuracy: np.ndarray
  confidence: np.ndarray

  @property
  def error(self) -> float:
    """The expected calibration error (ECE), from 0 to 1.

    The sum over bins of n_m / N |accuracy_m - confidence_m|, as in Guo et al.,
    "On Calibration of Modern Neural Networks", arXiv 1706.04599.
    """
    gaps = np.abs(self.accuracy - self.confidence)
    return float(np.sum(self.images * gaps) / max(self.images.sum(), 1))

  @property
  def mean_confidence(self) -> float:
    """The mean confidence of all predictions."""
    return float(np.sum(self.images * self.confidence) / self.images.sum())

  def to_json(self) -> dict[str, Any]:
    """Returns the error and the bins; of an empty one only the number."""
    bins: list[dict[str, Any]] = []
    for m, count in enumerate(self.images.tolist()):
      row: dict[str, Any] = {
        'from': m / len(self.images),
        'to': (m + 1) / len(self.images),
        'images': count,
      }
      if count:
        row['accuracy'] = float(self.accuracy[m])
        row['confidence'] = float(self.confidence[m])
      bins.append(row)
    return {
      'expected_calibration_error': self.error,
      'mean_confidence': self.mean_confidence,
      'bins': bins,
    }


def calibrate(
  probability: np.ndarray, correct: np.ndarray, bins: int = BINS
) -> Calibration:
  """Sorts predictions into bins by confidence.

  Args:
    probability: `[N]`, of the predicted class, from 0 to 1.
    correct: `[N]`, whether the predicted class is right.
    bins: their number M.
  """
  # float32 may be just above 1.
  confidence = np.clip(probability.astype(np.float64), 0, 1)
  edges = np.linspace(0, 1, bins + 1)
  number = np.maximum(np.searchsorted(edges, confidence, side='left') - 1, 0)

  def total(weights=None):
    return np.bincount(number, weights, minlength=bins)

  images = total()
  each = np.maximum(images, 1)
  return Calibration(images, total(correct) / each, total(confidence) / each)
