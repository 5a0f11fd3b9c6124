"""The depthwise convolution, and what is fused with it, in float64."""

import ml_dtypes
import numpy as np
from scipy import special


def random_array(rng, *shape):
  return rng.standard_normal(shape).astype(ml_dtypes.bfloat16)


def windows(x, size, pad_before):
  """Yields what each element of the kernel is multiplied by, in float64."""
  pad = (pad_before, size - 1 - pad_before)
  padded = np.pad(x.astype(np.float64), ((0, 0), pad, pad, (0, 0)))
  for i in range(size):
    for j in range(size):
      yield padded[:, i : i + x.shape[1], j : j + x.shape[2]]


def correlate(x, kernel, bias, pad_before):
  weights = kernel.astype(np.float64).reshape(-1, kernel.shape[-1])
  parts = windows(x, len(kernel), pad_before)
  return bias.astype(np.float64) + sum(
    part * weight for part, weight in zip(parts, weights, strict=True)
  )


def kernel_gradient(x, dy, size, pad_before):
  dy = dy.astype(np.float64)
  sums = [(part * dy).sum((0, 1, 2)) for part in windows(x, size, pad_before)]
  return np.stack([*sums, dy.sum((0, 1, 2))])


def activate(y, activation):
  if activation == 'relu':
    return np.maximum(y, 0)
  if activation == 'gelu':
    return y * normal_distribution(y)
  return y


def normal_distribution(y):
  return special.ndtr(y)


def slope_of(activation, z):
  if activation == 'relu':
    return (z > 0).astype(np.float64)
  density = np.exp(-np.square(z) / 2) / np.sqrt(2 * np.pi)
  return normal_distribution(z) + z * density
