"""A ResNet as ONNX nodes, its BatchNorms folded."""

from typing import Any

import jax
import numpy as np

from convmixer_jax.models.resnet.folding import fold
from convmixer_jax.models.resnet.module import (
  STAGES,
  STRIDES,
  ResNet,
  equal_blocks,
  first_block,
)


def to_onnx(
  graph: Any,
  model: ResNet,
  variables: Any,
  mean: jax.Array,
  std: jax.Array,
) -> str:
  """Adds the network to a graph; see `Architecture.to_onnx`."""
  folded = jax.device_get(fold(variables))

  def add_conv(x, layer, stride=1):
    kernel, bias = layer['kernel'], layer['bias']
    return graph.add(
      'Conv',
      x,
      kernel.transpose(3, 2, 0, 1),
      bias,
      strides=[stride, stride],
      pads=[kernel.shape[0] // 2] * 4,
    )

  def add_relu(x):
    return graph.add('Relu', x)

  def add_block(x, block, stride=1):
    shortcut = x
    if 'downsample' in block:
      shortcut = add_conv(x, block['downsample'], stride)
    y = add_relu(add_conv(x, block['conv1']))
    y = add_relu(add_conv(y, block['conv2'], stride))
    return add_relu(graph.add('Add', add_conv(y, block['conv3']), shortcut))

  x = graph.add('Sub', graph.images, np.asarray(mean, np.float32))
  x = graph.add('Div', x, np.asarray(std, np.float32))
  x = graph.add('Transpose', x, perm=[0, 3, 1, 2])
  x = add_relu(add_conv(x, folded['conv1'], 2))
  x = graph.add('MaxPool', x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
  for stage, stride in zip(STAGES, STRIDES, strict=True):
    x = add_block(x, folded[first_block(stage)], stride)
    for number in range(model.depths[stage - 1] - 1):
      stack = folded[equal_blocks(stage)]
      x = add_block(x, jax.tree.map(lambda array, i=number: array[i], stack))
  x = graph.add('Flatten', graph.add('GlobalAveragePool', x))
  return graph.add('Gemm', x, folded['head']['kernel'], folded['head']['bias'])
