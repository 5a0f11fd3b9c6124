"""Divides the time of a run between its stages."""

import time
from collections.abc import Mapping


class Budget:
  """The time that is left for each stage."""

  def __init__(self, seconds: float, shares: Mapping[str, float]):
    """Starts the clock.

    Args:
      seconds: time for all stages.
      shares: relative time of each stage, in their order.
    """
    self._start = time.monotonic()
    self._ends: dict[str, float] = {}
    used = 0.0
    for stage, share in shares.items():
      used += share
      self._ends[stage] = seconds * used / sum(shares.values())

  def used(self) -> float:
    """Returns the seconds since the start."""
    return time.monotonic() - self._start

  def left(self, stage: str) -> float:
    """Returns the seconds that a stage has until the next one must start."""
    return max(self._ends[stage] - self.used(), 0.0)
