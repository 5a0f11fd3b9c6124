"""A ConvMixer as ONNX nodes, its BatchNorms folded where they can be."""

from typing import Any

import jax

from convmixer_jax.models.convmixer.folding import fold
from convmixer_jax.models.convmixer.module import ConvMixer

_ACTIVATIONS = {'gelu': 'Gelu', 'relu': 'Relu'}  # Gelu's default is exact


def to_onnx(
  graph: Any,
  model: ConvMixer,
  variables: Any,
  mean: jax.Array,
  std: jax.Array,
) -> str:
  """Adds the network to a graph; see `Architecture.to_onnx`."""
  folded = jax.device_get(fold(variables, mean, std))
  patch, blocks, head = (folded[name] for name in ('patch', 'blocks', 'head'))

  def add_affine(x, factor, shift=None):
    x = graph.add('Mul', x, factor[:, None, None])
    return x if shift is None else graph.add('Add', x, shift[:, None, None])

  def add_activation(x):
    return graph.add(_ACTIVATIONS[model.activation], x)

  x = graph.add('Transpose', graph.images, perm=[0, 3, 1, 2])
  x = graph.add(
    'Conv',
    x,
    patch['kernel'].transpose(3, 2, 0, 1),
    patch['bias'],
    strides=[model.patch_size] * 2,
  )
  x = add_affine(add_activation(x), patch['factor'], patch['shift'])

  before, after = (model.kernel_size - 1) // 2, model.kernel_size // 2
  for number in range(model.depth):
    block = {name: array[number] for name, array in blocks.items()}
    y = graph.add(
      'Conv',
      x,
      block['depthwise_kernel'].transpose(2, 0, 1)[:, None],
      block['depthwise_bias'],
      pads=[before, before, after, after],
      group=model.width,
    )
    y = add_affine(add_activation(y), block['depthwise_factor'])
    x = graph.add('Add', x, y)
    kernel = block['pointwise_kernel'].T[:, :, None, None]
    x = add_activation(graph.add('Conv', x, kernel, block['pointwise_bias']))
    if number < model.depth - 1:
      x = add_affine(x, block['pointwise_factor'], block['pointwise_shift'])

  x = graph.add('Flatten', graph.add('GlobalAveragePool', x))
  return graph.add('Gemm', x, head['kernel'], head['bias'])
