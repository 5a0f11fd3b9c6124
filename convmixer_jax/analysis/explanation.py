"""A class activation map in the coordinates of its picture."""

import dataclasses
from collections.abc import Mapping

import ml_collections
import numpy as np

from convmixer_jax.config import ImageSize
from convmixer_jax.data.augment.transforms import eval_geometry


@dataclasses.dataclass(frozen=True)
class Explanation:
  """Where in a picture a network sees a class.

  Attributes:
    image: the picture `[H, W, C]`, decoded and turned upright.
    target: number of the class.
    name: of the class, for people.
    logit: of the class.
    probability: of the class.
    maps: by layer, float32 `[h, w]`. Of CAM, the mean and the bias of the class
      are the logit; Grad-CAM has no negative values.
    methods: by layer, 'cam' or 'gradcam'.
    box: top, left, height and width, in pixels of the picture, of what the
      maps cover: evaluation cuts the middle out.
  """

  image: np.ndarray = dataclasses.field(repr=False)
  target: int
  name: str
  logit: float
  probability: float
  maps: Mapping[str, np.ndarray] = dataclasses.field(repr=False)
  methods: Mapping[str, str]
  box: tuple[float, float, float, float]

  def heatmap(
    self, layer: str | None = None, shape: tuple[int, int] | None = None
  ) -> np.ndarray:
    """Returns a map in the coordinates of the picture.

    Args:
      layer: one of `maps`; None for the last of them.
      shape: rows and columns of the result, which covers the whole picture;
        None for those of the picture.

    Returns:
      float32 of that shape, interpolated linearly between the centres of the
      grid's cells; NaN where the network does not see the picture.
    """
    grid = self.maps[list(self.maps)[-1] if layer is None else layer]
    top, left, height, width = self.box
    picture = self.image.shape[:2]
    rows, columns = shape or picture
    heat = _interpolate(grid, rows, picture[0], top, height)
    return _interpolate(heat.T, columns, picture[1], left, width).T


def find_box(
  picture: tuple[int, int],
  grid: tuple[int, int],
  patch_size: int,
  config: ml_collections.ConfigDict,
  image_size: ImageSize,
) -> tuple[float, float, float, float]:
  """Returns what a grid covers of a picture; see `Explanation.box`.

  Args:
    picture: its height and width, in pixels.
    grid: rows and columns.
    patch_size: of the network, in pixels of the images that it sees.
    config: `augment`, of the evaluation.
    image_size: of the evaluation.
  """
  *resized, (*corner, height, width) = eval_geometry(
    *picture, config, image_size
  )
  starts, lengths = [], []
  for axis, length in enumerate((height, width)):
    scale = picture[axis] / resized[axis]
    covered = length
    if grid[axis] == length // patch_size:  # the rest is not in any patch
      covered = grid[axis] * patch_size
    starts.append(corner[axis] * scale)
    lengths.append(covered * scale)
  return starts[0], starts[1], lengths[0], lengths[1]


def _interpolate(grid, size, picture_size, start, length):
  """Interpolates the first axis of a grid at `size` places of a picture."""
  places = (np.arange(size) + 0.5) * picture_size / size
  cells = (places - start) / length * len(grid) - 0.5
  inside = (cells >= -0.5) & (cells <= len(grid) - 0.5)
  cells = np.clip(cells, 0, len(grid) - 1)
  low = np.minimum(cells.astype(int), max(len(grid) - 2, 0))
  high = np.minimum(low + 1, len(grid) - 1)
  share = (cells - low)[:, None]
  values = (1 - share) * grid[low] + share * grid[high]
  return np.where(inside[:, None], values, np.nan).astype(np.float32)
