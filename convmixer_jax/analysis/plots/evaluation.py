"""Plots of an evaluation: confusion matrix and misclassified images."""

import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from convmixer_jax.analysis.plots.pictures import to_picture
from convmixer_jax.analysis.plots.text import (
  add_title,
  literal_text,
  shorten,
)

_MAX_NAMED = 30  # classes whose names and counts fit into a matrix
_MAX_CLASSES = 1000  # of a matrix
_MAX_BARS = 25
_MIN_CELL = 1.5  # size of a cell of a matrix, in points
_LINE_LENGTH = 38  # characters over an image
_MAX_LINES = 3  # of the names of an image's classes


def confusion_matrix(
  pairs: np.ndarray, names: Sequence[str], title: str = ''
) -> Figure:
  """Draws a confusion matrix, with the accuracy in its title.

  With up to 30 classes, the matrix has their names and the counts. A larger
  matrix is next to a chart of the most frequent confusions. It has at most
  1,000 classes, those with the most errors.

  Args:
    pairs: `[P, 3]`: a class, the class predicted for images of it, and their
      number; each pair once.
    names: names of the K classes.
    title: what is evaluated, on what.
  """
  shown = _choose_classes(pairs, len(names))
  counts = _to_matrix(pairs, shown)
  shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  rows, columns = np.nonzero(counts)
  drawn = [names[k] for k in _drawn(pairs, len(names))]
  with literal_text([*drawn, title]) as literal:
    if len(shown) <= _MAX_NAMED:
      side = 3 + 0.42 * len(shown)
      figure = Figure(figsize=(side + 1, side), layout='constrained')
      axes = figure.subplots()
      short = [shorten(names[k]) for k in shown]
      rotation = 90 if max(map(len, short)) > 3 else 0
      short = [literal(name) for name in short]
      axes.set_xticks(range(len(shown)), short, rotation=rotation)
      axes.set_yticks(range(len(shown)), short)
      for row, column in zip(rows, columns, strict=True):
        is_dark = shares[row, column] > 0.4
        axes.text(
          int(column),
          int(row),
          str(counts[row, column]),
          ha='center',
          va='center',
          size=8,
          color='white' if is_dark else 'black',
        )
      axes.set(xlabel='predicted class', ylabel='true class')
    else:
      figure = Figure(figsize=(17, 8.5), layout='constrained')
      axes, bar_axes = figure.subplots(1, 2, width_ratios=(3, 2))
      of = 'number'
      if len(shown) < len(names):
        of = f'of the {len(shown):,} with the most errors'
      axes.set(xlabel=f'predicted class ({of})', ylabel=f'true class ({of})')
      _plot_confusions(bar_axes, pairs, names, literal)
    add_title(figure, literal(title), _accuracy(pairs))
  # With the square root, a confusion of 1 % of the images is still visible.
  norm = PowerNorm(0.5, vmin=0, vmax=1)
  image = axes.imshow(
    shares,
    cmap='Blues',
    norm=norm,
    interpolation='nearest',
  )
  if len(shown) > _MAX_NAMED:  # cells of many classes are too small to see
    order = np.argsort(shares[rows, columns])
    axes.scatter(
      columns[order],
      rows[order],
      c=shares[rows, columns][order],
      cmap=image.cmap,
      norm=norm,
      marker='s',
      linewidths=0,
      s=max(400 / len(shown), _MIN_CELL) ** 2,
    )
  figure.colorbar(
    image, ax=axes, label='share of the images of a class', shrink=0.8
  )
  return figure


def _accuracy(pairs: np.ndarray) -> str:
  images = pairs[:, 2].sum()
  correct = pairs[pairs[:, 0] == pairs[:, 1], 2].sum()
  return f'accuracy {100 * correct / max(images, 1):.2f} %, {images:,} images'


def _choose_classes(pairs: np.ndarray, num_classes: int) -> np.ndarray:
  """Returns the classes to draw, ascending: those with the most errors."""
  if num_classes <= _MAX_CLASSES:
    return np.arange(num_classes)
  errors = np.zeros(num_classes, np.int64)
  true, predicted, count = pairs[pairs[:, 0] != pairs[:, 1]].T
  np.add.at(errors, true, count)
  np.add.at(errors, predicted, count)
  return np.sort(np.argsort(-errors, kind='stable')[:_MAX_CLASSES])


def _to_matrix(pairs: np.ndarray, shown: np.ndarray) -> np.ndarray:
  """Returns the counts `[S, S]` of the S classes in `shown`, ascending."""
  inside = np.isin(pairs[:, :2], shown).all(axis=1)
  true, predicted, count = pairs[inside].T
  counts = np.zeros((len(shown), len(shown)), np.int64)
  counts[np.searchsorted(shown, true), np.searchsorted(shown, predicted)] = (
    count
  )
  return counts


def _most_frequent(pairs: np.ndarray) -> np.ndarray:
  """Returns the rows of `pairs` of the most frequent confusions."""
  errors = pairs[pairs[:, 0] != pairs[:, 1]]
  return errors[np.argsort(-errors[:, 2], kind='stable')[:_MAX_BARS]]


def _drawn(pairs: np.ndarray, num_classes: int) -> list[int]:
  """Returns the classes whose names are drawn."""
  if num_classes <= _MAX_NAMED:
    return list(range(num_classes))
  return np.unique(_most_frequent(pairs)[:, :2]).tolist()


def _plot_confusions(
  axes: Axes,
  pairs: np.ndarray,
  names: Sequence[str],
  literal: Callable[[str], str],
) -> None:
  """Draws the most frequent confusions as bars, the most frequent on top."""
  images = np.bincount(pairs[:, 0], weights=pairs[:, 2]).astype(int)
  worst = _most_frequent(pairs)
  bars = axes.barh(range(len(worst)), worst[:, 2])
  axes.bar_label(
    bars,
    [f'{count} of {images[true]}' for true, _, count in worst],
    padding=3,
    size=8,
  )
  axes.set_yticks(
    range(len(worst)),
    [
      literal(f'{shorten(names[i])} \u2192 {shorten(names[k])}')
      for i, k, _ in worst
    ],
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
    images: uint8 or float32 `[H, W, C]`; see `to_picture`.
    correct: correct class of each image, and its probability.
    predicted: predicted class of each image, and its probability.
  """
  drawn = [name for name, _ in (*correct, *predicted)]
  with literal_text(drawn) as literal:
    titles = [
      f'true: {literal(shorten(name))}  {100 * share:.1f} %\n'
      f'predicted: {literal(shorten(other))}  {100 * other_share:.1f} %'
      for (name, share), (other, other_share) in zip(
        correct, predicted, strict=True
      )
    ]
    return _titled_images(
      images, titles, 'Largest errors, with the probabilities of the classes'
    )


def images_of_wrong_labels(
  images: Sequence[np.ndarray],
  correct: Sequence[str],
  predicted: Sequence[str],
  losses: Sequence[float],
) -> Figure:
  """Draws images with several labels of which some are wrong, six in a row.

  Args:
    images: uint8 or float32 `[H, W, C]`; see `to_picture`.
    correct: the classes of each image, in one text.
    predicted: the classes that each image was given.
    losses: of the images.
  """
  with literal_text([*correct, *predicted]) as literal:
    titles = [
      f'loss {loss:.3f}\n{literal(_fill(f"true: {name}"))}\n'
      f'{literal(_fill(f"predicted: {other}"))}'
      for name, other, loss in zip(correct, predicted, losses, strict=True)
    ]
    return _titled_images(images, titles, 'Images of the largest loss')


def _titled_images(images, titles, suptitle):
  columns = min(6, len(images))
  rows = -(-len(images) // columns)
  lines = max(title.count('\n') for title in titles) + 1
  row = 2.4 + 0.06 + 0.17 * lines
  size = (max(2.4 * columns, 6), row * rows + 0.5)  # in inches
  figure = Figure(figsize=size, layout='constrained')
  figure.suptitle(suptitle)
  grid = figure.subplots(rows, columns, squeeze=False).ravel()
  for axes in grid:
    axes.axis('off')
  for axes, image, title in zip(grid, images, titles, strict=False):
    axes.imshow(to_picture(image), interpolation='nearest')
    axes.set_title(title, size=7.5)
  return figure


def _fill(names: str) -> str:
  """Breaks a list of names into lines that fit over an image, at most three."""
  return textwrap.fill(
    names, _LINE_LENGTH, max_lines=_MAX_LINES, placeholder=' ...'
  )
