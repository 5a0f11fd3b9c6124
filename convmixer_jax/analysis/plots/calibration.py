"""The reliability diagram of an evaluation."""

import textwrap

import numpy as np
from matplotlib.figure import Figure

from convmixer_jax.analysis.plots.text import literal_text

_TITLE_WIDTH = 64  # characters


def reliability_diagram(
  images: np.ndarray,
  accuracy: np.ndarray,
  confidence: np.ndarray,
  error: float,
  title: str = '',
) -> Figure:
  """Draws accuracy against confidence, and how many images have which.

  Args:
    images: `[M]`, number of images in each of M bins of equal width.
    accuracy: `[M]`, fraction of them that is right.
    confidence: `[M]`, their mean confidence.
    error: the expected calibration error.
    title: what is evaluated, on what.
  """
  bins = len(images)
  left = np.arange(bins) / bins
  filled = images > 0
  figure = Figure(figsize=(6, 7.2), layout='constrained')
  axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
  axes.bar(
    left[filled],
    accuracy[filled],
    width=1 / bins,
    align='edge',
    edgecolor='white',
    label='accuracy',
  )
  axes.vlines(
    confidence[filled],
    np.minimum(accuracy, confidence)[filled],
    np.maximum(accuracy, confidence)[filled],
    color='tab:red',
    linewidth=2.5,
    label='gap to the mean confidence',
  )
  axes.plot(confidence[filled], confidence[filled], 'o', color='tab:red', ms=4)
  axes.plot([0, 1], [0, 1], '--', color='black', label='perfect calibration')
  axes.set(ylabel='accuracy', xlim=(0, 1), ylim=(0, 1))
  axes.grid(alpha=0.3)
  axes.legend(loc='upper left')

  total = images.sum()
  below.bar(
    left, images / total, width=1 / bins, align='edge', edgecolor='white'
  )
  means = {
    'mean accuracy': (accuracy, 'tab:blue', '-'),
    'mean confidence': (confidence, 'tab:red', '--'),
  }
  for label, (values, color, style) in means.items():
    mean = float(np.sum(images * values) / total)
    below.axvline(
      mean, color=color, linestyle=style, label=f'{label} {100 * mean:.2f} %'
    )
  below.set(
    xlabel='confidence: probability of the predicted class',
    ylabel='share of images',
    ylim=(0, min(1, 1.6 * images.max() / total)),
  )
  below.grid(alpha=0.3)
  below.legend(loc='upper left')
  with literal_text([title]) as literal:
    shown = f'expected calibration error {100 * error:.2f} %, {total:,} images'
    lines = [literal(line) for line in textwrap.wrap(title, _TITLE_WIDTH)]
    figure.suptitle('\n'.join([*lines, shown]), size=11)
  return figure
