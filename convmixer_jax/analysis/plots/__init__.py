"""Plots of runs, networks and evaluations."""

import io

from matplotlib.figure import Figure

from convmixer_jax.analysis.plots.calibration import reliability_diagram
from convmixer_jax.analysis.plots.class_activation_maps import class_activation
from convmixer_jax.analysis.plots.comparisons import ComparedRow, comparison
from convmixer_jax.analysis.plots.evaluation import (
  confusion_matrix,
  images_of_wrong_labels,
  misclassified_images,
)
from convmixer_jax.analysis.plots.learning_rates import learning_rate_sweep
from convmixer_jax.analysis.plots.networks import (
  accuracy_by_size,
  kernel_grid,
  kernels,
  receptive_fields,
)
from convmixer_jax.analysis.plots.runs import (
  compare_runs,
  learning_curves,
)


def to_png(figure: Figure) -> bytes:
  """Returns the figure as the content of a PNG file."""
  file = io.BytesIO()
  figure.savefig(file, format='png', dpi=120)
  return file.getvalue()


__all__ = [
  'ComparedRow',
  'accuracy_by_size',
  'class_activation',
  'compare_runs',
  'comparison',
  'confusion_matrix',
  'images_of_wrong_labels',
  'kernel_grid',
  'kernels',
  'learning_curves',
  'learning_rate_sweep',
  'misclassified_images',
  'receptive_fields',
  'reliability_diagram',
  'to_png',
]
