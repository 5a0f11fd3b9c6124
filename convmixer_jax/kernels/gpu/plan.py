"""How the images of a depthwise convolution are divided among thread blocks.

A thread block takes `CHANNELS` channels of `STRIPS` strips of 16 columns, and
moves down their rows. A strip is a part of an image: 16 of its columns, and one
of its bands of rows. Several strips of a block lie side by side in one image
where it is wide enough, so their common borders are loaded once.
"""

import functools
from typing import NamedTuple

CHANNELS = 16
STRIPS = 16
COLUMNS = 16  # of a strip

# The multiprocessors of an H100. The number of bands depends on it, and with it
# the order in which a kernel gradient is summed. So it is the same everywhere.
_MULTIPROCESSORS = 132
# What a thread block costs before its first row, in rows: it waits for memory.
_ROWS_TO_START = 6


class Plan(NamedTuple):
  """How images are divided among thread blocks.

  tiles: strips of a block that lie side by side in an image.
  column_blocks: blocks that lie side by side in an image.
  bands: parts of an image's rows.
  groups: of `STRIPS // tiles` bands of images, over the batch.
  """

  tiles: int
  column_blocks: int
  bands: int
  groups: int


@functools.lru_cache(maxsize=256)
def make_plan(
  shape: tuple[int, ...], size: int, bands: int | None = None
) -> Plan:
  """Divides images among thread blocks, so that a GPU is busy.

  Args:
    shape: of the images, `[N, H, W, C]`.
    size: side of the depthwise kernel.
    bands: the number of bands, instead of the fastest.
  """
  n, h, w, c = shape
  tiles = next((t for t in (1, 2) if w <= t * COLUMNS), 4)
  column_blocks = -(-w // (tiles * COLUMNS))
  height = STRIPS // tiles

  def groups(bands):
    return -(-n * bands // height)

  def duration(bands):
    # A band also needs the rows around it, unless they are beyond the image.
    rows = -(-h // bands) + (size - 1 if bands > 1 else size // 2)
    blocks = c // CHANNELS * column_blocks * groups(bands)
    return -(-blocks // _MULTIPROCESSORS) * (rows + _ROWS_TO_START), bands

  # Every band has rows: else ceil(h / bands) rows a band would need fewer.
  counts = [b for b in range(1, min(h, 64) + 1) if -(-h // -(-h // b)) == b]
  bands = bands or min(counts, key=duration)
  return Plan(tiles, column_blocks, bands, groups(bands))
