"""Finds the largest batch that fits, with few compilations."""

import math
from collections.abc import Callable

_TOLERANCE = 16  # the result may be a sixteenth below the optimum


def largest_that_fits(
  measure: Callable[[int], tuple[bool, float]],
  *,
  start: int,
  unit: int,
  most: int,
  capacity: float,
) -> tuple[int, int | None]:
  """Searches the multiples of `unit`, memory being near linear in the batch.

  Args:
    measure: returns, of a batch, whether it fits and the bytes it needs, or
      infinity.
    start: the batch to begin with.
    unit: images that a batch has to have, or a multiple.
    most: the largest batch to consider.
    capacity: bytes there are.

  Returns:
    The largest batch that was seen to fit, 0 if none does, and the smallest
    seen not to fit, None if that is beyond `most`. They are one unit apart, or
    a sixteenth.
  """
  fits, too_large = 0, most // unit * unit + unit
  guess, needs = start, {}
  while too_large - fits > max(unit, fits // _TOLERANCE):
    guess = min(max(guess // unit * unit, fits + unit), too_large - unit)
    fitted, needed = measure(guess)
    if fitted:
      fits = guess
    else:
      too_large = guess
    if not math.isfinite(needed):
      guess = (fits + too_large) // 2
      continue
    needs[guess] = needed
    # A line through this batch and the one measured next to it, or zero.
    others = [batch for batch in needs if batch != guess]
    other = min(others, key=lambda b: abs(b - guess), default=0)
    slope = (needed - needs.get(other, 0)) / (guess - other)
    guess += int((capacity - needed) / slope) if slope > 0 else most
    # A batch that does not fit fails quickly, so guess one unit too large.
    guess += unit if fitted else 0
  return fits, too_large if too_large <= most else None
