"""A ViT as ONNX nodes."""

from typing import Any

import jax
import numpy as np

from convmixer_jax.models.layers import EPSILON, resample


def to_onnx(
  graph: Any, model: Any, variables: Any, mean: jax.Array, std: jax.Array
) -> str:
  """Adds a `ViT`, distilled or not, to a graph; see `Architecture.to_onnx`."""
  params = jax.device_get(variables['params'])
  width, heads = model.width, model.heads
  size = width // heads

  def add_dense(x, layer):
    x = graph.add('MatMul', x, layer['kernel'])
    return graph.add('Add', x, layer['bias'])

  def add_norm(x, layer):
    return graph.add(
      'LayerNormalization', x, layer['scale'], layer['bias'], epsilon=EPSILON
    )

  def reshape(x, *shape):
    return graph.add('Reshape', x, np.array(shape, np.int64))

  def take(x, number, axis):
    return graph.add('Gather', x, np.array(number, np.int64), axis=axis)

  x = graph.add('Sub', graph.images, np.asarray(mean, np.float32))
  x = graph.add('Div', x, np.asarray(std, np.float32))
  x = graph.add('Transpose', x, perm=[0, 3, 1, 2])
  embedding = params['patch_embedding']['projection']
  p = model.patch_size
  rows, columns = (side // p for side in graph.size)
  kernel = embedding['kernel'].reshape(p, p, -1, width)
  x = graph.add(
    'Conv',
    x,
    kernel.transpose(3, 2, 0, 1),
    embedding['bias'],
    strides=[p, p],
  )
  x = graph.add('Transpose', reshape(x, 0, width, -1), perm=[0, 2, 1])
  # The class token comes first: a row of zeros, to which its own is added; the
  # same with others.
  count, others = rows * columns, len(model.tokens)
  pads = np.array([0, others, 0, 0, 0, 0], np.int64)
  x = graph.add('Pad', x, pads)
  old_grid = model.native_size and tuple(s // p for s in model.native_size)
  table = np.array(
    resample(params['position_embedding'], (rows, columns), old_grid, others)
  )
  for number, name in enumerate(model.tokens):
    table[:, number] += params[name][:, 0]
  x = graph.add('Add', x, table)

  for number in range(model.depth):
    block = jax.tree.map(lambda stack, i=number: stack[i], params['blocks'])
    y = add_dense(
      add_norm(x, block['attention_norm']), block['attention']['qkv']
    )
    y = reshape(y, 0, count + others, 3, heads, size)
    y = graph.add('Transpose', y, perm=[2, 0, 3, 1, 4])  # [3, B, heads, N, .]
    q, k, v = (take(y, which, 0) for which in range(3))
    k = graph.add('Transpose', k, perm=[0, 1, 3, 2])
    scores = graph.add('MatMul', q, k)
    scores = graph.add('Mul', scores, np.float32(size**-0.5))
    y = graph.add('MatMul', graph.add('Softmax', scores, axis=-1), v)
    y = reshape(graph.add('Transpose', y, perm=[0, 2, 1, 3]), 0, -1, width)
    x = graph.add('Add', x, add_dense(y, block['attention']['projection']))
    y = add_dense(add_norm(x, block['mlp_norm']), block['mlp']['expand'])
    y = add_dense(graph.add('Gelu', y), block['mlp']['contract'])
    x = graph.add('Add', x, y)

  if others == 1:
    return add_dense(add_norm(take(x, 0, 1), params['norm']), params['head'])
  logits = []
  for number, name in enumerate(model.tokens):
    features = add_norm(take(x, number, 1), params['norm'])
    logits.append(add_dense(features, params['head'][name]))
  x = graph.add('Sum', *logits)
  return graph.add('Mul', x, np.float32(1 / others))
