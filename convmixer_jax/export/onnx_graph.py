"""Exports a network as an ONNX graph, written node by node.

No maintained library converts it: jax2onnx 0.17.1 refuses Orbax 0.11.37 and
newer, and tf2onnx needs TensorFlow graphs. Each network adds its own nodes
(`Architecture.to_onnx`).
"""

from typing import Any

import jax
import ml_collections
import numpy as np
from flax import linen as nn

from convmixer_jax.config import image_shape
from convmixer_jax.errors import UserError
from convmixer_jax.export.card import Format
from convmixer_jax.models import MODELS, architecture_of
from convmixer_jax.models.inference import pixel_statistics

_OPSET, _IR_VERSION = 20, 9  # the first with Gelu; of ONNX 1.15
# To units in which uint8 images have 0 to 255.
_SCALES = {'uint8': 1.0, 'uint16': 1 / 257, 'float32': 255.0}

ONNX = Format(
  file='model.onnx',
  needs='pip install onnxruntime',
  load="""\
import onnxruntime

session = onnxruntime.InferenceSession('model.onnx')
(outputs,) = session.run(None, {'images': images})
""",
)


class Graph:
  """A graph under construction: nodes and weights, with generated names.

  Attributes:
    images: name of the images `[batch, H, W, C]`, float32.
    size: (H, W).
  """

  def __init__(self, onnx: Any, size: tuple[int, int], scale: float = 1.0):
    """Creates a graph that converts the images to float32, times `scale`."""
    self._onnx = onnx
    self.nodes: list[Any] = []
    self.weights: list[Any] = []
    self.size = size
    self.images = self.add('Cast', 'images', to=onnx.TensorProto.FLOAT)
    if scale != 1:
      self.images = self.add('Mul', self.images, np.asarray(scale, np.float32))

  def add(
    self, operation: str, *inputs: str | np.ndarray, **attributes: Any
  ) -> str:
    """Appends a node; arrays among its inputs become weights.

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
    value = np.asarray(value, order='C')
    self.weights.append(self._onnx.numpy_helper.from_array(value, name))
    return name


def to_onnx(
  model: nn.Module,
  variables: dict[str, Any],
  config: ml_collections.ConfigDict,
  *,
  probabilities: bool = False,
  dtype: str = 'uint8',
) -> bytes:
  """Serialises a network with its weights, BatchNorm and normalisation folded.

  Args:
    model: the network, which is computed in float32.
    variables: its `params` and `batch_stats`.
    config: `config.dataset`, for `image_size`, `mean`, `std` and
      `multi_label`, by which probabilities are a sigmoid or a softmax.
    probabilities: whether the outputs are probabilities, not logits.
    dtype: of the images: uint8, uint16 or float32.

  Returns:
    A `ModelProto`: a function of `images` `[batch, H, W, C]`, of this size and
    dtype, that returns `outputs` `[batch, num_classes]` in float32.

  Raises:
    UserError: the package onnx is not installed, or the network cannot be
      exported to ONNX.
  """
  try:
    import onnx
  except ImportError as error:
    raise UserError(
      '--format=onnx needs the package onnx; install it: pip install '
      "'convmixer-jax[onnx]', or, in a checkout, pip install '.[onnx]'"
    ) from error

  add_network = architecture_of(model).to_onnx
  if add_network is None:
    supported = [name for name, other in MODELS.items() if other.to_onnx]
    raise UserError(
      f'--format=onnx is for {", ".join(supported)}, not for '
      f'{type(model).__name__}; use --format=stablehlo'
    )
  height, width, channels = image_shape(config)
  graph = Graph(onnx, (height, width), _SCALES[dtype])
  mean: Any
  std: Any
  mean, std = pixel_statistics(config)
  if dtype != 'uint8':  # see models.inference
    graph.images = graph.add('Sub', graph.images, np.asarray(mean, np.float32))
    graph.images = graph.add('Div', graph.images, np.asarray(std, np.float32))
    mean, std = np.zeros_like(mean), np.ones_like(std)
  x = add_network(graph, model, jax.device_get(variables), mean, std)
  if probabilities:
    if config.get('multi_label'):
      x = graph.add('Sigmoid', x)
    else:
      x = graph.add('Softmax', x, axis=-1)
  graph.nodes[-1].output[0] = 'outputs'

  helper, types = onnx.helper, onnx.TensorProto
  images = helper.make_tensor_value_info(
    'images',
    helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
    ['batch', height, width, channels],
  )
  outputs = helper.make_tensor_value_info(
    'outputs', types.FLOAT, ['batch', model.num_classes]
  )
  return helper.make_model(
    helper.make_graph(
      graph.nodes, type(model).__name__, [images], [outputs], graph.weights
    ),
    opset_imports=[helper.make_opsetid('', _OPSET)],
    ir_version=_IR_VERSION,
    producer_name='convmixer_jax',
  ).SerializeToString()
