"""Shares the time of a run between its stages."""

import time
from collections.abc import Mapping


class Budget:
  """Seconds that are left, for a stage and in all."""

  def __init__(self, seconds: float, shares: Mapping[str, float]):
    """Starts the clock.

    Args:
      seconds: for all stages.
      shares: of each stage, in their order; their sum counts as the whole.
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
    """Returns the seconds that a stage has until the next one is due."""
    return max(self._ends[stage] - self.used(), 0.0)
