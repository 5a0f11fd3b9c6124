"""Pictures of an evaluation: what a network confuses."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

_MOST_NAMED = 30  # classes whose names and counts fit into a matrix
_MOST_BARS = 25
_LEAST_CELL = 1.5  # of a matrix, in points
_NAME_LENGTH = 26  # characters


def confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> Figure:
  """Draws which classes are taken for which.

  Up to 30 classes have their names and counts in the matrix. Beside one of
  more stand the most frequent confusions by name.

  Args:
    counts: `[K, K]`, images of class (row) that were taken for class (column).
    names: of the K classes.
  """
  shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  rows, columns = np.nonzero(counts)
  if len(names) <= _MOST_NAMED:
    side = 3 + 0.42 * len(names)
    figure = Figure(figsize=(side + 1, side), layout='constrained')
    axes = figure.subplots()
    short = [_shorten(name) for name in names]
    rotation = 90 if max(map(len, short)) > 3 else 0
    axes.set_xticks(range(len(names)), short, rotation=rotation)
    axes.set_yticks(range(len(names)), short)
    for row, column in zip(rows, columns, strict=True):
      dark = shares[row, column] > 0.4
      axes.text(
        column,
        row,
        counts[row, column],
        ha='center',
        va='center',
        size=8,
        color='white' if dark else 'black',
      )
    axes.set(xlabel='taken for', ylabel='class')
  else:
    figure = Figure(figsize=(17, 8.5), layout='constrained')
    axes, beside = figure.subplots(1, 2, width_ratios=(3, 2))
    axes.set(xlabel='taken for (number of the class)', ylabel='class (number)')
    _list_confusions(beside, counts, names)
  # By the root, a confusion of one image in a hundred can still be seen.
  image = axes.imshow(
    shares,
    cmap='Blues',
    norm=PowerNorm(0.5, vmin=0, vmax=1),
    interpolation='nearest',
  )
  if len(names) > _MOST_NAMED:  # cells of many classes are too small to see
    order = np.argsort(shares[rows, columns])
    axes.scatter(
      columns[order],
      rows[order],
      c=shares[rows, columns][order],
      cmap=image.cmap,
      norm=image.norm,
      marker='s',
      linewidths=0,
      s=max(400 / len(names), _LEAST_CELL) ** 2,
    )
  figure.colorbar(
    image, ax=axes, label='share of the images of a class', shrink=0.8
  )
  return figure


def _list_confusions(
  axes: Axes, counts: np.ndarray, names: Sequence[str]
) -> None:
  """Draws the most frequent confusions as bars, the most frequent on top."""
  images = counts.sum(axis=1)
  mistaken = counts - np.diag(np.diag(counts))
  order = np.argsort(-mistaken, axis=None, kind='stable')[:_MOST_BARS]
  pairs = zip(*np.unravel_index(order, counts.shape), strict=True)
  pairs = [pair for pair in pairs if mistaken[pair]]
  bars = axes.barh(range(len(pairs)), [mistaken[pair] for pair in pairs])
  axes.bar_label(
    bars,
    [f'{mistaken[row, column]} of {images[row]}' for row, column in pairs],
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
    title='most frequent confusions: class \u2192 taken for', xlabel='images'
  )


def wrong_pictures(
  images: Sequence[np.ndarray],
  right: Sequence[tuple[str, float]],
  predicted: Sequence[tuple[str, float]],
) -> Figure:
  """Draws pictures that were taken for something else, in rows of six.

  Args:
    images: uint8 `[H, W, 3]`.
    right: for each the right class and the probability it was given.
    predicted: for each the predicted class and its probability.
  """
  columns = min(6, len(images))
  rows = -(-len(images) // columns)
  size = (max(2.4 * columns, 6), 2.8 * rows + 0.5)  # in inches
  figure = Figure(figsize=size, layout='constrained')
  figure.suptitle('Most wrong, with the probabilities of the classes')
  grid = figure.subplots(rows, columns, squeeze=False).ravel()
  for axes in grid:
    axes.axis('off')
  for axes, image, (name, share), (other, other_share) in zip(
    grid, images, right, predicted, strict=False
  ):
    axes.imshow(image, interpolation='nearest')
    axes.set_title(
      f'is {_shorten(name)}  {100 * share:.1f} %\n'
      f'taken for {_shorten(other)}  {100 * other_share:.1f} %',
      size=7.5,
    )
  return figure


def _shorten(name: str) -> str:
  return textwrap.shorten(name, _NAME_LENGTH, placeholder=' ...')
