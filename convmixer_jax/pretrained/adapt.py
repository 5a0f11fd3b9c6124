"""Adapts weights for RGB images to images of other channels, as timm does."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from convmixer_jax.errors import UserError
from convmixer_jax.models.architecture import Architecture

_RGB = 3


def adapt_input(kernel: np.ndarray, channels: int) -> np.ndarray:
  """Adapts a kernel for RGB, as timm's `adapt_input_conv`.

  For one channel, the three are added: it sees a grey image as the kernel saw
  the same image in RGB. For others, they are repeated in turn (red, green,
  blue, red, ...) and scaled by 3 / C, so that the sum of their products has
  about the same size.

  Args:
    kernel: `[N, 3, width]`, float32.
    channels: wanted, C.

  Returns:
    `[N, C, width]`, float32.
  """
  if channels == _RGB:
    return kernel
  if channels == 1:
    return kernel.sum(axis=1, keepdims=True)
  order = np.arange(channels) % _RGB
  return kernel[:, order] * np.float32(_RGB / channels)


def adapt_params(
  params: Mapping[str, Any],
  architecture: Architecture,
  theirs: int,
  ours: int,
  source: str,
) -> Mapping[str, Any]:
  """Returns parameters whose first layer takes other channels.

  Args:
    params: of a network for images of `theirs` channels.
    architecture: of the network.
    theirs: channels of the images of the weights.
    ours: channels that are wanted.
    source: of the weights, for errors.

  Raises:
    UserError: the weights are not for RGB, or it is not known where the network
      sees the channels.
  """
  if theirs == ours:
    return params
  if theirs != _RGB or not architecture.stem:
    why = 'only weights for RGB can be adapted'
    if theirs == _RGB:
      why = 'its Architecture has no stem, so they cannot be adapted'
    raise UserError(
      f'config.init_from = {source} is for images of {theirs} '
      f'channel{"s"[: theirs != 1]}, and config.dataset.mean has {ours} '
      f'value{"s"[: ours != 1]}: {why}; give images of {theirs}, or other '
      'weights'
    )
  return _replace(params, architecture.stem, ours)


def _replace(params, path, channels):
  name, *rest = path
  if rest:
    return {**params, name: _replace(params[name], rest, channels)}
  kernel = np.asarray(params[name])
  *_, width = kernel.shape
  adapted = adapt_input(kernel.reshape(-1, _RGB, width), channels)
  # Patches of one axis have all their values in it, else an axis for channels.
  shape = (-1, width)
  if kernel.ndim > 2:
    shape = (*kernel.shape[:-2], channels, width)
  return {**params, name: adapted.reshape(shape)}
