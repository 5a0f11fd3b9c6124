"""A ResMLP or an MLP-Mixer as ONNX nodes."""

from typing import Any

import jax
import numpy as np

from convmixer_jax.models.layers import EPSILON


def to_onnx(
  graph: Any, model: Any, variables: Any, mean: jax.Array, std: jax.Array
) -> str:
  """Adds a network with fixed tokens to a graph; see `Architecture.to_onnx`."""
  params = jax.device_get(variables['params'])
  p = model.patch_size

  def add_dense(x, layer):
    x = graph.add('MatMul', x, layer['kernel'])
    return graph.add('Add', x, layer['bias'])

  def add_norm(x, of, name):
    """Adds `name`_norm, or `name`_affine."""
    if (layer := of.get(f'{name}_affine')) is not None:
      return scale_and_shift(x, layer)
    return layer_norm(x, of[f'{name}_norm'])

  def layer_norm(x, layer):
    return graph.add(
      'LayerNormalization', x, layer['scale'], layer['bias'], epsilon=EPSILON
    )

  def scale_and_shift(x, layer):
    return graph.add('Add', graph.add('Mul', x, layer['scale']), layer['bias'])

  def add_mlp(x, layer):
    if 'kernel' in layer:
      return add_dense(x, layer)
    x = graph.add('Gelu', add_dense(x, layer['expand']))
    return add_dense(x, layer['contract'])

  def add_branch(x, y, factor):
    if factor is not None:
      y = graph.add('Mul', y, factor)
    return graph.add('Add', x, y)

  def transpose(x):
    return graph.add('Transpose', x, perm=[0, 2, 1])

  x = graph.add('Sub', graph.images, np.asarray(mean, np.float32))
  x = graph.add('Div', x, np.asarray(std, np.float32))
  x = graph.add('Transpose', x, perm=[0, 3, 1, 2])
  kernel = params['patch_embedding']['kernel']
  kernel = kernel.reshape(p, p, -1, model.width).transpose(3, 2, 0, 1)
  bias = params['patch_embedding']['bias']
  x = graph.add('Conv', x, kernel, bias, strides=[p, p])
  shape = np.array([0, model.width, -1], np.int64)
  x = transpose(graph.add('Reshape', x, shape))  # [B, N, C]

  for number in range(model.depth):
    block = jax.tree.map(lambda stack, i=number: stack[i], params['blocks'])
    y = transpose(add_norm(x, block, 'token'))
    y = transpose(add_mlp(y, block['token_mixer']))
    x = add_branch(x, y, block.get('token_scale'))
    y = add_mlp(add_norm(x, block, 'mlp'), block['mlp'])
    x = add_branch(x, y, block.get('mlp_scale'))

  is_affine = 'token_affine' in params['blocks']
  x = (scale_and_shift if is_affine else layer_norm)(x, params['norm'])
  x = graph.add('ReduceMean', x, np.array([1], np.int64), keepdims=0)
  return add_dense(x, params['head'])
