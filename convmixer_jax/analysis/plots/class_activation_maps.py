"""Plots of class activation maps over their picture."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from convmixer_jax.analysis.explanation import Explanation
from convmixer_jax.analysis.plots.pictures import to_picture
from convmixer_jax.analysis.plots.text import literal_text, shorten

_MAX_COLUMNS = 6  # of panels
_PANEL = 2.7  # inches
_PIXELS = 320  # of the long side of a panel
_COLORS = matplotlib.colormaps['inferno']
_METHODS = {'cam': 'CAM', 'gradcam': 'Grad-CAM'}


def class_activation(explanations: Sequence[Explanation]) -> Figure:
  """Draws a picture and, beside it, where a network sees classes in it.

  Each map is scaled by its largest value; negative ones, which speak against
  the class, are not drawn. What the network does not see of the picture is
  paler, outside a frame.

  Args:
    explanations: of one picture, one for each class, with the same layers.
  """
  layers = list(explanations[0].maps)
  rows = -(-(1 + len(layers)) // _MAX_COLUMNS)
  columns = -(-(1 + len(layers)) // rows)
  height, width = explanations[0].image.shape[:2]
  ratio = min(max(height / width, 0.3), 3)
  figure = Figure(
    figsize=(
      max(columns * _PANEL * min(1, 1 / ratio), 2.2 * columns),
      len(explanations) * rows * (_PANEL * min(1, ratio) + 0.5),
    ),
    layout='constrained',
  )
  grid = figure.subplots(len(explanations) * rows, columns, squeeze=False)
  for axes in grid.ravel():
    axes.axis('off')
  picture = _resize(to_picture(explanations[0].image))
  with literal_text([item.name for item in explanations]) as literal:
    for number, item in enumerate(explanations):
      panels = grid[number * rows : (number + 1) * rows].ravel()
      _show_picture(panels[0], picture)
      name = literal(shorten(item.name))
      panels[0].set_title(f'{name}\n{100 * item.probability:.1f} %', size=9)
      for axes, layer in zip(panels[1:], layers, strict=False):
        _show_picture(axes, picture)
        _show_map(axes, item, layer)
  return figure


def _resize(image: np.ndarray) -> np.ndarray:
  """Returns a picture as large as a panel needs it."""
  size = _drawn_size(*image.shape[:2])
  is_small = size[0] > image.shape[0]
  resample = Image.Resampling.NEAREST if is_small else Image.Resampling.BOX
  return np.asarray(Image.fromarray(image).resize(size[::-1], resample))


def _drawn_size(height, width):
  scale = _PIXELS / max(height, width)
  return math.ceil(height * scale), math.ceil(width * scale)


def _show_picture(axes: Axes, picture: np.ndarray) -> None:
  axes.imshow(picture, interpolation='nearest')


def _show_map(axes: Axes, item: Explanation, layer: str) -> None:
  """Draws a map over the picture, and the frame of what the network sees."""
  height, width = item.image.shape[:2]
  shape = _drawn_size(height, width)
  heat = item.heatmap(layer, shape)
  largest = np.nanmax(heat)
  title = f'{layer}, {_METHODS[item.methods[layer]]}'
  if largest > 0:
    share = np.clip(np.nan_to_num(heat) / largest, 0, 1)
  else:
    share = np.zeros(shape)
    title += '\nnothing speaks for it'
  colors = _COLORS(share)
  colors[..., 3] = 0.25 + 0.45 * share
  colors[np.isnan(heat)] = (1, 1, 1, 0.6)
  axes.imshow(colors, interpolation='nearest')
  axes.set_title(title, size=9)
  scale = shape[0] / height, shape[1] / width
  top, left, box_height, box_width = item.box
  if np.isnan(heat).any():
    axes.add_patch(
      Rectangle(
        (left * scale[1] - 0.5, top * scale[0] - 0.5),
        box_width * scale[1],
        box_height * scale[0],
        fill=False,
        edgecolor='white',
        linewidth=1.2,
      )
    )
