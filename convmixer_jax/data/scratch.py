"""Float32 work space that each thread keeps.

Arrays of an image's size come fresh from the system each time, and its first
touch of every page costs more than the arithmetic on it.
"""

import math
import threading

import numpy as np

_local = threading.local()


def floats(slot: int, shape: tuple[int, ...]) -> np.ndarray:
  """Returns a float32 array with anything in it.

  Args:
    slot: a small number; the next call of this thread with the same one may
      return the same memory. Never return such an array to a caller.
    shape: of the array.
  """
  size = math.prod(shape)
  slots = _local.__dict__
  memory = slots.get(slot)
  if memory is None or memory.size < size:
    memory = slots[slot] = np.empty(size, np.float32)
  return memory[:size].reshape(shape)


def as_floats(slot: int, image: np.ndarray) -> np.ndarray:
  """Copies `image` into `floats(slot, image.shape)`."""
  values = floats(slot, image.shape)
  np.copyto(values, image)
  return values
