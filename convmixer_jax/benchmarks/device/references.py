"""Reference implementations in float64 on the host, as in textbooks."""

import numpy as np
from scipy import special

Arrays = tuple[np.ndarray, ...]


def depthwise(
  x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, dy: np.ndarray
) -> dict[str, np.ndarray]:
  """Correlates x `[B, H, W, C]` with kernel `[k, k, C]`, with gradients.

  Returns:
    `forward`, and for the gradient dy of the output the `input gradient`,
    `kernel gradient` and `bias gradient`.
  """
  size, (_, height, width, _) = kernel.shape[0], x.shape
  pad_before = (size - 1) // 2
  pad = (pad_before, size - 1 - pad_before)
  padded = np.pad(x, ((0, 0), pad, pad, (0, 0)))
  y = np.zeros_like(x) + bias
  dpadded, dkernel = np.zeros_like(padded), np.zeros_like(kernel)
  for i in range(size):
    for j in range(size):
      window = (slice(None), slice(i, i + height), slice(j, j + width))
      y += padded[window] * kernel[i, j]
      dpadded[window] += dy * kernel[i, j]
      dkernel[i, j] = np.sum(padded[window] * dy, (0, 1, 2))
  rows = slice(pad_before, pad_before + height)
  columns = slice(pad_before, pad_before + width)
  return {
    'forward': y,
    'input gradient': dpadded[:, rows, columns],
    'kernel gradient': dkernel,
    'bias gradient': dy.sum((0, 1, 2)),
  }


def batch_norm(
  x: np.ndarray,
  bias: np.ndarray,
  scale: np.ndarray,
  offset: np.ndarray,
  residual: np.ndarray,
  dy: np.ndarray,
  *,
  activation: str,
  group_size: int,
  epsilon: float,
) -> dict[str, np.ndarray]:
  """Computes `BatchNorm(activation(x + bias)) + residual`, with gradients.

  Returns:
    `forward`, and for the gradient dy of the output the gradients of x, bias,
    scale and offset.
  """
  groups = (-1, group_size, *x.shape[1:])
  axes = (1, 2, 3)
  a, slope = _activate(x + bias, activation)
  a = a.reshape(groups)
  dy_groups = dy.reshape(groups)
  deviation = np.sqrt(a.var(axes, keepdims=True) + epsilon)
  normal = (a - a.mean(axes, keepdims=True)) / deviation
  y = (normal * scale + offset).reshape(x.shape) + residual
  dnormal = dy_groups * scale
  da = (
    dnormal
    - dnormal.mean(axes, keepdims=True)
    - normal * (dnormal * normal).mean(axes, keepdims=True)
  ) / deviation
  dx = da.reshape(x.shape) * slope
  return {
    'forward': y,
    'input gradient': dx,
    'bias gradient': dx.sum((0, 1, 2)),
    'scale gradient': (dy_groups * normal).sum((0, 1, 2, 3)),
    'offset gradient': dy.sum((0, 1, 2)),
  }


def residual_depthwise(
  x: np.ndarray,
  kernel: np.ndarray,
  bias: np.ndarray,
  scale: np.ndarray,
  offset: np.ndarray,
  dy: np.ndarray,
  *,
  activation: str,
  epsilon: float,
) -> dict[str, np.ndarray]:
  """Computes `kernels.residual_depthwise` over the whole batch.

  Returns:
    `forward`, and for the gradient dy of the output the gradients of all
    arrays.
  """
  y = depthwise(x, kernel, bias, dy)['forward']
  norm = batch_norm(
    *(y, np.zeros_like(scale), scale, offset, x, dy),
    activation=activation,
    group_size=len(x),
    epsilon=epsilon,
  )
  gradients = depthwise(x, kernel, bias, norm['input gradient'])
  return {
    'forward': norm['forward'],
    'input gradient': dy + gradients['input gradient'],
    'kernel gradient': gradients['kernel gradient'],
    'bias gradient': gradients['bias gradient'],
    'scale gradient': norm['scale gradient'],
    'offset gradient': norm['offset gradient'],
  }


def mixer(
  p: np.ndarray,
  p_bias: np.ndarray,
  p_factor: np.ndarray,
  p_shift: np.ndarray,
  kernel: np.ndarray,
  bias: np.ndarray,
  factor: np.ndarray,
  *,
  activation: str,
) -> dict[str, np.ndarray]:
  """Computes what `kernels.fused_mixer` does, as `forward`."""
  x = _activate(p + p_bias, activation)[0] * p_factor + p_shift
  y = depthwise(x, kernel, bias, np.zeros_like(x))['forward']
  return {'forward': x + _activate(y, activation)[0] * factor}


def linear(
  x: np.ndarray, kernel: np.ndarray, dy: np.ndarray
) -> dict[str, np.ndarray]:
  """Computes `x @ kernel` for x `[..., I]`, with gradients for dy."""
  rows, dy_rows = (array.reshape(-1, array.shape[-1]) for array in (x, dy))
  return {
    'forward': x @ kernel,
    'input gradient': dy @ kernel.T,
    'kernel gradient': rows.T @ dy_rows,
  }


def _activate(x, activation):
  """Returns the activation and its derivative."""
  if activation == 'relu':
    return np.maximum(x, 0.0), (x > 0).astype(x.dtype)
  normal = special.ndtr(x)
  density = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
  return x * normal, normal + x * density
