"""Plots of an evaluation: confusion matrix and misclassified images."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

_MAX_NAMED = 30  # classes whose names and counts fit into a matrix
_MAX_BARS = 25
_MIN_CELL = 1.5  # size of a cell of a matrix, in points
_NAME_LENGTH = 26  # characters


def confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> Figure:
  """Draws a confusion matrix.

  With up to 30 classes, the matrix has their names and the counts. A larger
  matrix is next to a chart of the most frequent confusions.

  Args:
    counts: `[K, K]`, number of images of a class (row) by predicted class
      (column).
    names: names of the K classes.
  """
  shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  rows, columns = np.nonzero(counts)
  if len(names) <= _MAX_NAMED:
    side = 3 + 0.42 * len(names)
    figure = Figure(figsize=(side + 1, side), layout='constrained')
    axes = figure.subplots()
    short = [_shorten(name) for name in names]
    rotation = 90 if max(map(len, short)) > 3 else 0
    axes.set_xticks(range(len(names)), short, rotation=rotation)
    axes.set_yticks(range(len(names)), short)
    for row, column in zip(rows, columns, strict=True):
      is_dark = shares[row, column] > 0.4
      axes.text(
        column,
        row,
        counts[row, column],
        ha='center',
        va='center',
        size=8,
        color='white' if is_dark else 'black',
      )
    axes.set(xlabel='predicted class', ylabel='true class')
  else:
    figure = Figure(figsize=(17, 8.5), layout='constrained')
    axes, bar_axes = figure.subplots(1, 2, width_ratios=(3, 2))
    axes.set(xlabel='predicted class (number)', ylabel='true class (number)')
    _plot_confusions(bar_axes, counts, names)
  # With the square root, a confusion of 1 % of the images is still visible.
  image = axes.imshow(
    shares,
    cmap='Blues',
    norm=PowerNorm(0.5, vmin=0, vmax=1),
    interpolation='nearest',
  )
  if len(names) > _MAX_NAMED:  # cells of many classes are too small to see
    order = np.argsort(shares[rows, columns])
    axes.scatter(
      columns[order],
      rows[order],
      c=shares[rows, columns][order],
      cmap=image.cmap,
      norm=image.norm,
      marker='s',
      linewidths=0,
      s=max(400 / len(names), _MIN_CELL) ** 2,
    )
  figure.colorbar(
    image, ax=axes, label='share of the images of a class', shrink=0.8
  )
  return figure


def _plot_confusions(
  axes: Axes, counts: np.ndarray, names: Sequence[str]
) -> None:
  """Draws the most frequent confusions as bars, the most frequent on top."""
  images = counts.sum(axis=1)
  errors = counts - np.diag(np.diag(counts))
  order = np.argsort(-errors, axis=None, kind='stable')[:_MAX_BARS]
  pairs = zip(*np.unravel_index(order, counts.shape), strict=True)
  pairs = [pair for pair in pairs if errors[pair]]
  bars = axes.barh(range(len(pairs)), [errors[pair] for pair in pairs])
  axes.bar_label(
    bars,
    [f'{errors[row, column]} of {images[row]}' for row, column in pairs],
    padding=3,
    size=8,
  )
  axes.set_yticks(
    range(len(pairs)),
    [f'{_shorten(names[i])} \u2192 {_shorten(names[k])}' for i, k in pairs],
  )
  axes.invert_yaxis()
  axes.margins(x=0.15, y=0.01)
  axes.set(
    title='most frequent confusions: true \u2192 predicted', xlabel='images'
  )


def misclassified_images(
  images: Sequence[np.ndarray],
  correct: Sequence[tuple[str, float]],
  predicted: Sequence[tuple[str, float]],
) -> Figure:
  """Draws misclassified images, in rows of six.

  Args:
    images: uint8 `[H, W, 3]`.
    correct: correct class of each image, and its probability.
    predicted: predicted class of each image, and its probability.
  """
  columns = min(6, len(images))
  rows = -(-len(images) // columns)
  size = (max(2.4 * columns, 6), 2.8 * rows + 0.5)  # in inches
  figure = Figure(figsize=size, layout='constrained')
  figure.suptitle('Largest errors, with the probabilities of the classes')
  grid = figure.subplots(rows, columns, squeeze=False).ravel()
  for axes in grid:
    axes.axis('off')
  for axes, image, (name, share), (other, other_share) in zip(
    grid, images, correct, predicted, strict=False
  ):
    axes.imshow(image, interpolation='nearest')
    axes.set_title(
      f'true: {_shorten(name)}  {100 * share:.1f} %\n'
      f'predicted: {_shorten(other)}  {100 * other_share:.1f} %',
      size=7.5,
    )
  return figure


def _shorten(name: str) -> str:
  return textwrap.shorten(name, _NAME_LENGTH, placeholder=' ...')
