"""Names and axes of a ConvMixer's arrays: timm's, the authors' and ours.

  timm         stem.0.weight  blocks.I.0.fn.0.weight  ...  head.weight
  the authors  0.weight       (I + 3).0.fn.0.weight   ...  (depth + 5).weight
  ours         patch_embedding/kernel  blocks/depthwise/kernel [depth, ...]

The authors' network is one `nn.Sequential`: convolution, activation, BatchNorm,
`depth` blocks, pooling, flattening, dense layer.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from convmixer_jax.models.convmixer.variants import VARIANTS
from convmixer_jax.models.tensors import compare, without_wrappers

# Our layers by timm's names; I is the number of the block.
_LAYERS = {
  ('patch_embedding',): 'stem.0',
  ('patch_bn',): 'stem.2',
  ('blocks', 'depthwise'): 'blocks.I.0.fn.0',
  ('blocks', 'depthwise_bn'): 'blocks.I.0.fn.2',
  ('blocks', 'pointwise'): 'blocks.I.1',
  ('blocks', 'pointwise_bn'): 'blocks.I.3',
  ('head',): 'head',
}
# Our kernels from PyTorch's weights, and back.
_KERNELS = {
  'patch_embedding': (
    lambda weight: weight.transpose(2, 3, 1, 0),
    lambda kernel: kernel.transpose(3, 2, 0, 1),
  ),
  'depthwise': (
    lambda weight: weight[:, 0].transpose(1, 2, 0),
    lambda kernel: kernel.transpose(2, 0, 1)[:, None],
  ),
  'pointwise': (
    lambda weight: weight[:, :, 0, 0].T,
    lambda kernel: kernel.T[:, :, None, None],
  ),
  'head': (lambda weight: weight.T, lambda kernel: kernel.T),
}
_AS_IT_IS = (lambda array: array, lambda array: array)
_COUNT = 'num_batches_tracked'  # PyTorch's BatchNorm has it and does not use it
_NAMES = re.compile(
  r'(?:stem\.[02]|blocks\.\d+\.(?:0\.fn\.[02]|[13])|head'
  r'|\d+(?:\.0\.fn\.[02]|\.[13])?)\.\w+'
)


def matches(name: str) -> bool:
  """Whether timm or the authors may call a tensor of a ConvMixer so."""
  return _NAMES.fullmatch(name) is not None


def assume(fields: Mapping[str, Any]) -> dict[str, str]:
  """Returns the activation of published networks with these fields.

  ReLU for the shape of the released 768/32 with patch 7 and kernel 7, and GELU
  for all others.
  """
  is_relu = {**fields, 'activation': 'relu'} == VARIANTS['768_32']
  return {'activation': 'relu' if is_relu else 'gelu'}


def from_timm(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Brings weights, or their gradients, from timm's names and axes to ours.

  Args:
    tensors: by timm's names; gradients lack BatchNorm's statistics, buffers
      lack all else.

  Returns:
    `params` and `batch_stats`, of what there is.
  """
  depth = _depth(tensors)
  arrays = {}
  for path, name, (to_ours, _) in _arrays():
    if 'I' in name:
      names = [name.replace('I', str(i)) for i in range(depth)]
      if names and names[0] in tensors:
        arrays[path] = np.stack([to_ours(tensors[name]) for name in names])
    elif name in tensors:
      arrays[path] = to_ours(tensors[name])
  return unflatten_dict(arrays)


def to_timm(
  variables: Mapping[str, Any], channels: int = 3
) -> dict[str, np.ndarray]:
  """Brings our variables to timm's names and axes: its whole `state_dict`.

  The channels of the images follow from the shapes of a ConvMixer's arrays.
  BatchNorm's counts of batches, which ConvMixers do not use, are 0.
  """
  del channels
  ours = flatten_dict(
    {name: variables[name] for name in ('params', 'batch_stats')}
  )
  tensors = {}
  for path, name, (_, to_pytorch) in _arrays():
    array = np.asarray(ours[path])
    if 'I' in name:
      for i, of_block in enumerate(array):
        tensors[name.replace('I', str(i))] = to_pytorch(of_block)
    else:
      tensors[name] = to_pytorch(array)
  counts = {
    name.replace('running_mean', _COUNT): np.zeros((), np.int64)
    for name in tensors
    if name.endswith('running_mean')
  }
  return {
    name: np.ascontiguousarray(tensor)
    for name, tensor in (tensors | counts).items()
  }


def infer_fields(
  tensors: Mapping[str, np.ndarray], source: str
) -> tuple[dict[str, int], dict[str, np.ndarray]]:
  """Infers a ConvMixer's fields from tensors with timm's or the authors' names.

  Args:
    tensors: timm's or the authors' `state_dict`, with or without the prefixes
      of wrappers (`module.`).
    source: what they were read from, for errors.

  Returns:
    `width`, `depth`, `patch_size`, `kernel_size` and `num_classes`; and the
    tensors by timm's names, float32.

  Raises:
    UserError: lists tensors that are missing, surplus or misshapen.
  """
  tensors = {
    without_wrappers(name): tensor
    for name, tensor in tensors.items()
    if not name.endswith(_COUNT)
  }
  is_sequential = any(name[0].isdigit() for name in tensors if name)
  depth = max(_depth(tensors, is_sequential), 1)

  def given(name):
    return _sequential(name, depth) if is_sequential else name

  def size(name, axis):
    names = [given(name.replace('I', str(i))) for i in range(depth)]
    shapes = [tensors[name].shape for name in names if name in tensors]
    return next((shape[axis] for shape in shapes if shape), 0)

  first_axes = Counter(t.shape[0] for t in tensors.values() if t.shape)
  fields = {
    'width': first_axes.most_common(1)[0][0] if first_axes else 0,
    'depth': depth,
    'patch_size': size('stem.0.weight', -1),
    'kernel_size': size('blocks.I.0.fn.0.weight', -1),
    'num_classes': size('head.weight', 0),
  }
  shapes = _shapes(**fields, channels=size('stem.0.weight', 1) or 3)
  compare(
    tensors,
    {given(name): shape for name, shape in shapes.items()},
    source,
    'ConvMixer as timm or its authors lay it out',
    'ConvMixer',
  )
  return fields, {
    name: tensors[given(name)].astype(np.float32) for name in shapes
  }


def _arrays() -> Iterator[tuple[tuple[str, ...], str, Any]]:
  """Yields path among ours, timm's name and conversions of all arrays."""
  for path, layer in _LAYERS.items():
    if path[-1].endswith('_bn'):
      yield ('params', *path, 'scale'), f'{layer}.weight', _AS_IT_IS
      yield ('params', *path, 'bias'), f'{layer}.bias', _AS_IT_IS
      yield ('batch_stats', *path, 'mean'), f'{layer}.running_mean', _AS_IT_IS
      yield ('batch_stats', *path, 'var'), f'{layer}.running_var', _AS_IT_IS
    else:
      kernel = _KERNELS[path[-1]]
      yield ('params', *path, 'kernel'), f'{layer}.weight', kernel
      yield ('params', *path, 'bias'), f'{layer}.bias', _AS_IT_IS


def _depth(names, is_sequential=False):
  pattern = r'(\d+)\.(?:0\.fn|1|3)\.' if is_sequential else r'blocks\.(\d+)\.'
  found = [int(m[1]) for name in names if (m := re.match(pattern, name))]
  first = 3 if is_sequential else 0
  # A number that the file cannot hold so many blocks of is a surplus name.
  return max((i - first + 1 for i in found if i <= len(names)), default=0)


def _sequential(name, depth):
  """Returns the authors' name of what timm calls `name`."""
  part, rest = name.split('.', 1)
  if part == 'stem':
    return rest
  if part == 'head':
    return f'{depth + 5}.{rest}'
  block, rest = rest.split('.', 1)
  return f'{int(block) + 3}.{rest}'


def _shapes(width, depth, patch_size, kernel_size, num_classes, channels):
  """Returns what each of timm's tensors has to be."""
  k, p = kernel_size, patch_size
  weights = {
    'stem.0': (width, channels, p, p),
    'blocks.I.0.fn.0': (width, 1, k, k),
    'blocks.I.1': (width, width, 1, 1),
    'head': (num_classes, width),
  }
  shapes = {}
  for _, name, _ in _arrays():
    layer, _, kind = name.rpartition('.')
    shape = (num_classes,) if name == 'head.bias' else (width,)
    if kind == 'weight':
      shape = weights.get(layer, shape)
    for i in range(depth if 'I' in name else 1):
      shapes[name.replace('I', str(i))] = shape
  return shapes
