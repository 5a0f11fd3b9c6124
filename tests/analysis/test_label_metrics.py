"""Average precision and F1 against scikit-learn; the choice of thresholds."""

import numpy as np
import pytest
from sklearn import metrics as reference

from convmixer_jax.analysis import label_metrics


def scores_and_labels(num_images=200, num_classes=7, levels=None):
  rng = np.random.default_rng(0)
  labels = rng.random((num_images, num_classes)) < 0.3
  logits = rng.normal(size=labels.shape) + labels
  if levels:  # many equal scores
    logits = np.round(logits * levels) / levels
  return logits.astype(np.float32), labels


@pytest.mark.parametrize('levels', [None, 2])
def test_average_precision_is_that_of_scikit_learn(levels):
  scores, labels = scores_and_labels(levels=levels)
  found = label_metrics.average_precision(scores, labels)
  np.testing.assert_allclose(
    found,
    reference.average_precision_score(labels, scores, average=None),
    rtol=1e-12,
  )
  np.testing.assert_allclose(
    label_metrics.nanmean(found),
    reference.average_precision_score(labels, scores, average='macro'),
    rtol=1e-12,
  )


def test_class_without_images_is_left_out_of_the_mean():
  scores, labels = scores_and_labels()
  labels[:, 2] = False
  found = label_metrics.average_precision(scores, labels)
  assert np.flatnonzero(np.isnan(found)).tolist() == [2]
  others = [0, 1, 3, 4, 5, 6]
  np.testing.assert_allclose(
    label_metrics.nanmean(found),
    reference.average_precision_score(labels[:, others], scores[:, others]),
    rtol=1e-12,
  )


def test_average_precision_of_nan_is_nan_and_not_a_number_by_chance():
  scores, labels = scores_and_labels()
  scores[3, 1] = np.nan
  found = label_metrics.average_precision(scores, labels)
  assert np.isnan(found[1])
  assert not np.isnan(np.delete(found, 1)).any()


def test_one_image_and_no_label_are_scored():
  found = label_metrics.average_precision(
    np.array([[0.5, 0.5]]), np.array([[True, False]])
  )
  np.testing.assert_array_equal(found, [1, np.nan])
  assert np.isnan(label_metrics.nanmean(found[1:]))


def test_f1_precision_and_recall_are_those_of_scikit_learn():
  scores, labels = scores_and_labels()
  labels[:, 2] = False
  predicted = scores > 0.5
  predicted[:, 2] = False  # neither there nor predicted: left out
  labels[:, 4] = False  # predicted and never there: counts as 0
  f1 = label_metrics.count_f1(predicted, labels)
  precision, recall, each, _ = reference.precision_recall_fscore_support(
    labels, predicted, zero_division=np.nan
  )
  np.testing.assert_allclose(f1.precision(), precision)
  np.testing.assert_allclose(f1.recall(), recall)
  np.testing.assert_allclose(f1.per_class(), each)
  for average in ('micro', 'macro'):
    np.testing.assert_allclose(
      getattr(f1, average)(),
      reference.f1_score(
        labels, predicted, average=average, zero_division=np.nan
      ),
    )


@pytest.mark.parametrize('levels', [None, 2])
def test_no_other_threshold_has_a_higher_f1(levels):
  logits, labels = scores_and_labels(40, 3, levels)
  probabilities = label_metrics.sigmoid(logits)
  thresholds = label_metrics.choose_thresholds(probabilities, labels)
  found = label_metrics.count_f1(probabilities >= thresholds, labels)
  for k, f1 in enumerate(found.per_class()):
    others = [
      reference.f1_score(labels[:, k], probabilities[:, k] >= threshold)
      for threshold in np.unique(probabilities[:, k])
    ]
    np.testing.assert_allclose(f1, max(others))
  between = np.abs(probabilities - thresholds).min(axis=0)
  assert (between > 0).all()  # none lies on a threshold


def test_threshold_of_a_class_without_images_is_one_half():
  logits, labels = scores_and_labels()
  labels[:, 0] = False
  probabilities = label_metrics.sigmoid(logits)
  assert label_metrics.choose_thresholds(probabilities, labels)[0] == 0.5


def test_sigmoid_does_not_overflow():
  found = label_metrics.sigmoid(np.float32([-1000, -1, 0, 1, 1000]))
  np.testing.assert_allclose(
    found, [0, 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1], rtol=1e-12
  )
