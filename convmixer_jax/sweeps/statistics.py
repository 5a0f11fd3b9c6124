"""Means over seeds, with intervals by Student's t distribution."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from scipy import special

LEVEL = 0.95


class Interval(NamedTuple):
  """A mean and its 95 % interval.

  Attributes:
    mean: of the values; nan of none.
    half_width: the interval is mean - half_width to mean + half_width; None of
      one value, which says nothing about others.
    num_values: of which it is the mean.
  """

  mean: float
  half_width: float | None
  num_values: int

  @property
  def low(self) -> float:
    """Lower end; the mean if there is no interval."""
    return self.mean - (self.half_width or 0.0)

  @property
  def high(self) -> float:
    """Upper end; the mean if there is no interval."""
    return self.mean + (self.half_width or 0.0)


def mean_interval(values: Sequence[float]) -> Interval:
  """Returns the mean of values, and the interval of that of all such values.

  It assumes values that are independent and normally distributed.

  Args:
    values: such as the accuracies of several seeds.
  """
  count = len(values)
  if not count:
    return Interval(math.nan, None, 0)
  mean = math.fsum(values) / count
  if count == 1:
    return Interval(mean, None, 1)
  variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
  quantile = float(special.stdtrit(count - 1, (1 + LEVEL) / 2))
  return Interval(mean, quantile * math.sqrt(variance / count), count)


def paired_difference(
  values: Mapping[Hashable, float], reference: Mapping[Hashable, float]
) -> Interval:
  """Returns the mean difference to a reference, over what both have.

  What a seed does to both rows alike cancels, as the order of the data does.

  Args:
    values: by seed.
    reference: by seed.

  Returns:
    The interval of values - reference; of 0 values if nothing is common.
  """
  common = [key for key in values if key in reference]
  return mean_interval([values[key] - reference[key] for key in common])
