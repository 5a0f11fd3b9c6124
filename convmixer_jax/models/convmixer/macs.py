"""Counts parameters and MACs of a ConvMixer by layer.

A MAC is a multiplication with its addition (multiply-accumulate).
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from convmixer_jax.config import ImageSize, height_width


class Sizes(Protocol):
  """The sizes of a network: a `ConvMixer`, or an object with its attributes."""

  width: int
  depth: int
  patch_size: int
  kernel_size: int
  num_classes: int


@dataclasses.dataclass(frozen=True)
class Layer:
  """A convolution or dense layer, with the BatchNorm that follows it.

  Attributes:
    name: 'patch embedding', 'depthwise 1', 'pointwise 1', ... or 'head'.
    output: height, width and channels of the output.
    parameters: parameters of the layer, and scale and bias of its BatchNorm.
    macs: MACs for one image. Only convolutions and products count, including
      the padding of the image; activations and BatchNorm do not.
  """

  name: str
  output: tuple[int, int, int]
  parameters: int
  macs: int


def count_layers(
  sizes: Sizes, image_size: ImageSize, channels: int = 3
) -> list[Layer]:
  """Returns the layers of a network in order.

  Args:
    sizes: the network.
    image_size: side of the images or (height, width), in pixels.
    channels: of the images.
  """
  width, patch_size = sizes.width, sizes.patch_size
  rows, columns = (side // patch_size for side in height_width(image_size))
  output, positions = (rows, columns, width), rows * columns

  def convolution(name, fan_in):
    weights = fan_in * width
    return Layer(name, output, weights + 3 * width, positions * weights)

  layers = [convolution('patch embedding', channels * patch_size**2)]
  for block in range(1, sizes.depth + 1):
    layers.append(convolution(f'depthwise {block}', sizes.kernel_size**2))
    layers.append(convolution(f'pointwise {block}', width))
  head = width * sizes.num_classes
  outputs = (1, 1, sizes.num_classes)
  layers.append(Layer('head', outputs, head + sizes.num_classes, head))
  return layers


def layer_table(layers: Sequence[Layer]) -> str:
  """Formats the layers as a table, with totals and shares."""
  parameters = sum(layer.parameters for layer in layers)
  macs = sum(layer.macs for layer in layers)

  def line(name, output, own_parameters, own_macs):
    return (
      f'{name:<16}{output:>17}'
      f'{own_parameters:>13,}{own_parameters / parameters:>8.1%}'
      f'{own_macs:>16,}{own_macs / macs:>8.1%}'
    )

  lines = [
    f'{"layer":<16}{"output":>17}{"parameters":>13}{"share":>8}'
    f'{"multiply-adds":>16}{"share":>8}'
  ]
  for layer in layers:
    output = ' x '.join(map(str, layer.output))
    lines.append(line(layer.name, output, layer.parameters, layer.macs))
  return '\n'.join([*lines, line('all', '', parameters, macs)])
