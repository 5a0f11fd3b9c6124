"""The calibration error against scikit-learn's curve and plain Python."""

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from convmixer_jax.analysis import plots
from convmixer_jax.evaluation.calibration import BINS, calibrate


@pytest.fixture
def predictions():
  rng = np.random.default_rng(0)
  confidence = rng.beta(4, 1, 2000).astype(np.float32)
  confidence = confidence[confidence > 0.2]  # so that there are empty bins
  correct = rng.random(len(confidence)) < confidence**2
  return confidence, correct


def test_bins_are_those_of_scikit_learn(predictions):
  confidence, correct = predictions
  found = calibrate(confidence, correct)
  filled = found.images > 0
  assert 0 < filled.sum() < BINS == 15
  accuracy, mean = calibration_curve(correct, confidence, n_bins=15)
  np.testing.assert_allclose(found.accuracy[filled], accuracy)
  np.testing.assert_allclose(found.confidence[filled], mean, rtol=1e-6)


def test_error_is_the_mean_gap_weighted_by_images(predictions):
  confidence, correct = predictions
  members = [[] for _ in range(15)]
  for p, right in zip(confidence.tolist(), correct.tolist(), strict=True):
    members[math.ceil(15 * p) - 1].append((p, right))
  error = 0
  for pairs in filter(None, members):
    gap = sum(right for _, right in pairs) - sum(p for p, _ in pairs)
    error += abs(gap) / len(confidence)
  assert calibrate(confidence, correct).error == pytest.approx(error)
  assert error > 0.05


@pytest.mark.parametrize(
  ('confidence', 'correct', 'error'),
  [
    ([1.0, 1.0], [True, True], 0),
    ([1.0, 1.0], [True, False], 0.5),
    ([0.0, np.nextafter(np.float32(1), 2)], [False, True], 0),
    ([0.6], [True], 0.4),
  ],
)
def test_error_of_few_predictions(confidence, correct, error):
  found = calibrate(np.float32(confidence), np.array(correct))
  assert found.error == pytest.approx(error, abs=1e-6)


def test_upper_edge_belongs_to_a_bin_and_empty_bins_have_only_their_number():
  rows = calibrate(np.array([0.25, 0.5]), np.array([1, 0]), 4).to_json()['bins']
  assert [row['images'] for row in rows] == [1, 1, 0, 0]
  assert rows[0] == {
    **{'from': 0.0, 'to': 0.25, 'images': 1},
    **{'accuracy': 1.0, 'confidence': 0.25},
  }
  assert rows[3] == {'from': 0.75, 'to': 1.0, 'images': 0}


def test_diagram_has_the_accuracy_of_each_bin(predictions):
  found = calibrate(*predictions)
  figure = plots.reliability_diagram(
    found.images, found.accuracy, found.confidence, found.error, 'a $network$'
  )
  axes = figure.axes[0]
  heights = [bar.get_height() for bar in axes.patches]
  np.testing.assert_allclose(heights, found.accuracy[found.images > 0])
  assert f'{100 * found.error:.2f} %' in figure.get_suptitle()
  assert plots.to_png(figure).startswith(b'\x89PNG')
