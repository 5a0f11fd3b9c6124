"""Values that all processes of a run must have in common."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def value_of_first(value: int) -> int:
  """Returns the value that process 0 gave, in every process."""
  if jax.process_count() == 1:
    return value
  return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def all_true(value: bool) -> bool:
  """Whether the value is true in every process."""
  if jax.process_count() == 1:
    return value
  return bool(np.all(multihost_utils.process_allgather(np.asarray(value))))
