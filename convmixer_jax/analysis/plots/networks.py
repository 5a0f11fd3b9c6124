"""Plots of a network: kernels, receptive fields, accuracy by image size."""

import itertools
import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

_KERNEL_PIXELS = 24  # minimum side of a kernel in a grid
_GAP = 3  # pixels between two kernels
_MAX_COLUMNS = 4  # of panels


def kernel_grid(kernels: np.ndarray) -> np.ndarray:
  """Arranges kernels in a grid, each scaled by its own largest weight.

  Grey is a weight of 0, lighter is positive. So the magnitudes of different
  kernels cannot be compared.

  Args:
    kernels: `[N, k, k, C]`, with one channel; red, green and blue; or others,
      of which the mean is drawn.

  Returns:
    uint8 `[H, W, 3]`, with about as many rows as columns.
  """
  count, size = kernels.shape[:2]
  if kernels.shape[-1] not in (1, 3):
    kernels = kernels.mean(axis=-1, keepdims=True)
  largest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
  scaled = kernels / np.where(largest == 0, 1, largest)
  pixels = np.rint(127.5 + 127.5 * scaled).astype(np.uint8)
  pixels = np.broadcast_to(pixels, (count, size, size, 3))
  zoom = -(-_KERNEL_PIXELS // size)
  pixels = pixels.repeat(zoom, axis=1).repeat(zoom, axis=2)

  columns = math.ceil(math.sqrt(count))
  rows = -(-count // columns)
  step = size * zoom + _GAP
  grid = np.full((rows * step + _GAP, columns * step + _GAP, 3), 255, np.uint8)
  for number, kernel in enumerate(pixels):
    top, left = (index * step + _GAP for index in divmod(number, columns))
    grid[top : top + size * zoom, left : left + size * zoom] = kernel
  return grid


def kernels(kernels: np.ndarray, num_channels: int, title: str) -> Figure:
  """Draws kernels of a layer, or of each block in a panel of its own.

  Args:
    kernels: `[N, k, k, C]`, or `[depth, N, k, k, C]` of blocks, as
      `models.architecture.Architecture.pictures` gives them.
    num_channels: of the layer, of which these are N.
    title: what they are.
  """
  if kernels.ndim == 4:
    figure = Figure(figsize=(5, 5.4), layout='constrained')
    _show_grid(figure.subplots(), kernels)
    figure.suptitle(
      f'{title}: {_of(len(kernels), num_channels)}\n'
      'each filter scaled by its largest weight; grey is 0',
      fontsize='medium',
    )
    return figure
  figure, panels = _panels(len(kernels))
  for axes, block, number in zip(panels, kernels, itertools.count(1)):
    _show_grid(axes, block)
    axes.set_title(f'block {number}')
  figure.suptitle(
    f'{title}: {_of(kernels.shape[1], num_channels)}; each scaled by its '
    'largest weight; grey is 0, white positive'
  )
  return figure


def receptive_fields(fields: np.ndarray) -> Figure:
  """Draws the effective receptive field of each block.

  Brightness is the square root of the gradient, scaled for each panel.

  Args:
    fields: `[depth, H, W]`, from `effective_receptive_fields`.
  """
  figure, panels = _panels(len(fields))
  for axes, field, number in zip(panels, fields, itertools.count(1)):
    image = axes.imshow(np.sqrt(field / field.max()), cmap='magma', vmin=0)
    axes.set_title(f'block {number}')
    axes.set(xticks=[], yticks=[])
  bar = figure.colorbar(image, ax=panels, shrink=0.8)
  ticks = (0, 0.01, 0.1, 0.25, 0.5, 1)
  bar.set_ticks([math.sqrt(tick) for tick in ticks], labels=map(str, ticks))
  bar.set_label('gradient, relative to the largest')
  figure.suptitle(
    'Effective receptive field: gradient of the centre of a '
    "block's output with respect to each pixel"
  )
  return figure


def accuracy_by_size(accuracies: Mapping[int, float], trained: int) -> Figure:
  """Draws the accuracy against the size of the images.

  Args:
    accuracies: by side of the images, in pixels.
    trained: side of the images that the network was trained on.
  """
  figure = Figure(figsize=(6, 3.6), layout='constrained')
  axes = figure.subplots()
  axes.plot(list(accuracies), list(accuracies.values()), marker='o', ms=4)
  axes.axvline(trained, color='grey', ls='--', label=f'trained on: {trained}')
  axes.set(
    xlabel='side of the images, in pixels',
    ylabel='held-out accuracy',
    xticks=list(accuracies),
    ylim=(0, 1),
  )
  axes.grid(alpha=0.3)
  axes.legend()
  return figure


def _panels(count):
  columns = min(count, _MAX_COLUMNS)
  rows = -(-count // columns)
  figure = Figure(figsize=(3 * columns, 3 * rows + 0.6), layout='constrained')
  panels = figure.subplots(rows, columns, squeeze=False).ravel()
  for axes in panels[count:]:
    axes.set_axis_off()
  return figure, panels[:count]


def _show_grid(axes, kernels):
  axes.imshow(kernel_grid(kernels), interpolation='nearest')
  axes.set_axis_off()


def _of(count, num_channels):
  if count == num_channels:
    return f'all {num_channels} channels'
  return f'{count} of {num_channels} channels, evenly spaced'
