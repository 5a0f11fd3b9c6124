"""The shared memory of a thread block: planes, and stages of rows under way.

It only computes, as csrc/tiles.cuh and the sources that include it do.
"""

from typing import NamedTuple

from convmixer_jax.kernels.gpu.plan import CHANNELS, COLUMNS, STRIPS, Plan

BORDER = 4  # columns before and after those of a block: the largest padding

# What a thread block may have, by compute capability: CUDA C++ Programming
# Guide, "Technical Specifications per Compute Capability".
_KIB = {'8.0': 163, '8.6': 99, '8.7': 163, '8.9': 99}
_OTHER_KIB = 227
LEAST = 99 * 1024
# The least of GPUs of data centres.
OF_DATA_CENTRES = 163 * 1024

# Stages: the row that a step needs was asked for as many steps before, less
# one. With 3 an H100 waits for the kernel gradient's rows, 1.2 us each where
# its memory could bring them in 0.75; with more they take no longer than that.
_FEWEST_STAGES = 3
_MOST_STAGES = 6
# Beyond, too little is left of the L1 cache for registers that were spilled.
_MOST_STAGES_OF_GRADIENT = 5


class SharedMemory(NamedTuple):
  """What a thread block takes."""

  stages: int
  num_bytes: int


def limit(capability: str) -> int:
  """Returns the bytes that a block may have on GPUs of a compute capability."""
  return 1024 * _KIB.get(capability, _OTHER_KIB)


def lay_out(
  size: int, plan: Plan, *, extra_rows: int, gradient: bool, sums_kernel: bool,
  available: int,
) -> SharedMemory:  # fmt: skip
  """Returns as many stages as are useful and fit, and all bytes.

  Args:
    size: side of the depthwise kernel.
    plan: of the images.
    extra_rows: arrays beside x of which a stage has a row, without the columns
      of neighbours.
    gradient: whether z is read beside x, with three rows of coefficients.
    sums_kernel: whether it is the kernel gradient, which ends with the products
      of all channels in the place of the stages.
    available: bytes that a thread block may have. Fewer than 3 stages are
      never returned: then more is needed than is available.
  """
  height = STRIPS // plan.tiles
  columns = plan.tiles * COLUMNS
  neighbours = 2 * BORDER if plan.column_blocks > 1 else 0
  own = height * columns * 2  # copies of 16 bytes
  stage = 16 * (
    (1 + gradient) * (own + height * neighbours * 2) + extra_rows * own
  )
  words = height * (columns + 2 * BORDER) // 2  # of a channel
  planes = 4 * (CHANNELS * (words + 4) + 8)  # two of each array
  fixed = 4 * planes + 4 * 3 * CHANNELS * gradient
  most = _MOST_STAGES_OF_GRADIENT if gradient else _MOST_STAGES
  stages = max(_FEWEST_STAGES, min(most, (available - fixed) // stage))
  products = 0
  if sums_kernel:  # kChannelWords of each channel
    products = 4 * CHANNELS * ((size + 1) * 128 + 2)
  return SharedMemory(stages, max(fixed + stages * stage, products))
