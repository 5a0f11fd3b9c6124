"""Reads a fixture of timm's weights, and of what timm computes with them."""

import pathlib

import numpy as np


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns all arrays of an npz file by name."""
  with np.load(path) as file:
    return dict(file)


def weights_of(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the weights among the arrays, by timm's names."""
  return {
    key.removeprefix('weights/'): array
    for key, array in arrays.items()
    if key.startswith('weights/')
  }
