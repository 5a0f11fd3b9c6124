"""A network as an ONNX graph, written node by node.

No kept library converts it: jax2onnx 0.17.1 refuses Orbax from 0.11.37 on, and
tf2onnx takes TensorFlow graphs. There are ten kinds of node.
"""

from typing import Any

import ml_collections
import numpy as np

from convmixer_jax.errors import UserError
from convmixer_jax.export.card import Format
from convmixer_jax.export.folded import fold_with_pixels
from convmixer_jax.models import ConvMixer

_OPSET, _IR_VERSION = 20, 9  # the first with Gelu; of ONNX 1.15
_ACTIVATIONS = {'gelu': 'Gelu', 'relu': 'Relu'}  # Gelu's default is exact

ONNX = Format(
  file='model.onnx',
  needs='pip install onnxruntime',
  load="""\
import onnxruntime

session = onnxruntime.InferenceSession('model.onnx')
(outputs,) = session.run(None, {'images': images})
""",
)


class _Graph:
  """Nodes and weights, in order; names are made up on the way."""

  def __init__(self, onnx):
    self._onnx = onnx
    self.nodes, self.weights = [], []

  def add(self, operation, *inputs, **attributes):
    """Appends a node; arrays among the inputs become weights.

    Returns:
      The name of its output.
    """
    names = [self._name(value) for value in inputs]
    output = f'{operation.lower()}_{len(self.nodes)}'
    self.nodes.append(
      self._onnx.helper.make_node(operation, names, [output], **attributes)
    )
    return output

  def _name(self, value):
    if isinstance(value, str):
      return value
    name = f'weight_{len(self.weights)}'
    value = np.ascontiguousarray(value)
    self.weights.append(self._onnx.numpy_helper.from_array(value, name))
    return name


def to_onnx(
  model: ConvMixer,
  variables: dict[str, Any],
  config: ml_collections.ConfigDict,
  *,
  probabilities: bool = False,
) -> bytes:
  """Serialises a network with its weights, BatchNorm and normalisation folded.

  Args:
    model: the network; it is computed in float32.
    variables: its `params` and `batch_stats`.
    config: `config.dataset`, for `image_size`, `mean` and `std`.
    probabilities: whether the outputs are these, not logits.

  Returns:
    A `ModelProto`: a function of `images`, uint8 `[batch, S, S, 3]` with S
    being `image_size`, that returns `outputs` `[batch, num_classes]` in
    float32.

  Raises:
    UserError: the package onnx is not installed.
  """
  try:
    import onnx
  except ImportError as error:
    raise UserError(
      "--format=onnx needs a package more: pip install 'onnx>=1.17,<2'"
    ) from error

  folded = fold_with_pixels(variables, config)
  patch, blocks, head = (folded[name] for name in ('patch', 'blocks', 'head'))
  graph = _Graph(onnx)

  def add_affine(x, factor, shift=None):
    x = graph.add('Mul', x, factor[:, None, None])
    return x if shift is None else graph.add('Add', x, shift[:, None, None])

  def add_activation(x):
    return graph.add(_ACTIVATIONS[model.activation], x)

  x = graph.add('Cast', 'images', to=onnx.TensorProto.FLOAT)
  x = graph.add('Transpose', x, perm=[0, 3, 1, 2])
  x = graph.add(
    'Conv',
    x,
    patch['kernel'].transpose(3, 2, 0, 1),
    patch['bias'],
    strides=[model.patch_size] * 2,
  )
  x = add_affine(add_activation(x), patch['factor'], patch['shift'])

  low, high = (model.kernel_size - 1) // 2, model.kernel_size // 2
  for number in range(model.depth):
    block = {name: array[number] for name, array in blocks.items()}
    y = graph.add(
      'Conv',
      x,
      block['depthwise_kernel'].transpose(2, 0, 1)[:, None],
      block['depthwise_bias'],
      pads=[low, low, high, high],
      group=model.width,
    )
    y = add_affine(add_activation(y), block['depthwise_factor'])
    x = graph.add('Add', x, y)
    kernel = block['pointwise_kernel'].T[:, :, None, None]
    x = add_activation(graph.add('Conv', x, kernel, block['pointwise_bias']))
    if number < model.depth - 1:
      x = add_affine(x, block['pointwise_factor'], block['pointwise_shift'])

  x = graph.add('Flatten', graph.add('GlobalAveragePool', x))
  x = graph.add('Gemm', x, head['kernel'], head['bias'])
  if probabilities:
    x = graph.add('Softmax', x, axis=-1)
  graph.nodes[-1].output[0] = 'outputs'

  helper, types = onnx.helper, onnx.TensorProto
  side = config.image_size
  images = helper.make_tensor_value_info(
    'images', types.UINT8, ['batch', side, side, 3]
  )
  outputs = helper.make_tensor_value_info(
    'outputs', types.FLOAT, ['batch', model.num_classes]
  )
  return helper.make_model(
    helper.make_graph(
      graph.nodes, 'ConvMixer', [images], [outputs], graph.weights
    ),
    opset_imports=[helper.make_opsetid('', _OPSET)],
    ir_version=_IR_VERSION,
    producer_name='convmixer_jax',
  ).SerializeToString()
