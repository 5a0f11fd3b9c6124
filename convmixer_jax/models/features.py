"""Features of a network: the grid that each layer outputs, by name.

  stem      what the first block reads, such as the patch embedding
  block1    the first block, and so on
  last      what the head pools: the last block's, in a ViT after its norm

They are found among what the network sows. Blocks are the modules `blocks`,
many of them, or of networks with stages `stage1_block1`, one, `stage1_blocks`,
many, and so on, which sow their `output`. One of your own may sow other
outputs `[B, h, w, C]`, whose names are then their paths, such as
'stage1/output'.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct, traverse_util

from convmixer_jax.config import nearest
from convmixer_jax.errors import UserError

# A layer: its name, or its number: 0 is the first, -1 the last.
Layer = str | int
# None for the last one, 'all', a layer, or several.
Layers = None | Layer | Sequence[Layer]

LAST = 'last'
# The names of modules. They are in the network's order where JAX sorts them.
_BLOCK = re.compile(r'stage\d_block1')
_BLOCKS = re.compile(r'(?:stage\d_)?blocks')
_FEATURES = 'features'
_CLASS_TOKEN = '_class_token'
NOTHING = (
  f'the network sows no grid [B, h, w, C], so it has no layers to show; sow '
  f'one as {LAST!r}; see docs/adding_a_network.md'
)


class LayerFeatures(NamedTuple):
  """What one layer outputs.

  Attributes:
    grid: `[B, h, w, C]`; of the networks here h = H / p and w = W / p.
    pooled: `[B, C]`, float32: what the head reads if the layer is the last,
      else the mean of the grid.
    class_token: `[B, C]` of networks that have it beside the grid, else None.
  """

  grid: jax.Array
  pooled: jax.Array
  class_token: jax.Array | None = None


@struct.dataclass
class Features:
  """The features of images, a tree of arrays for JAX.

  Attributes:
    names: of the layers that were asked for, in the network's order.
    values: of each, as `layers` has them by name.
    head_input: `[B, C]`, float32, what the head reads; None if the network
      does not sow it.
    logits: `[B, K]`, float32.
  """

  names: tuple[str, ...] = struct.field(pytree_node=False)
  values: tuple[LayerFeatures, ...]
  head_input: jax.Array | None
  logits: jax.Array

  @property
  def layers(self) -> dict[str, LayerFeatures]:
    """The layers that were asked for, by name, in the network's order."""
    return dict(zip(self.names, self.values, strict=True))

  @property
  def grid(self) -> jax.Array:
    """That of the last of these layers, `[B, h, w, C]`."""
    return self._of_last('grid')

  @property
  def pooled(self) -> jax.Array:
    """That of the last of these layers, `[B, C]`, float32."""
    if not self.names and self.head_input is not None:
      return self.head_input
    return self._of_last('pooled')

  @property
  def class_token(self) -> jax.Array | None:
    """That of the last of these layers, `[B, C]`, or None."""
    return self._of_last('class_token')

  def _of_last(self, name):
    if not self.names:
      raise UserError(NOTHING)
    return getattr(self.values[-1], name)


@dataclasses.dataclass(frozen=True)
class Location:
  """Where an output is among what a network sows.

  Attributes:
    path: of the names of modules, and of the output.
    call: number of the call that sowed it.
    block: its number along the leading axis; None if there is no such axis.
  """

  path: tuple[str, ...]
  call: int = 0
  block: int | None = None

  def find(self, sown: Mapping[str, Any]) -> jax.Array:
    """Returns the output among what was sown."""
    found: Any = sown
    for name in self.path:
      found = found[name]
    array = found[self.call]
    return array if self.block is None else array[self.block]


def find_layers(intermediates: Mapping[str, Any]) -> dict[str, Location]:
  """Returns where the grids are, by name and in the network's order.

  Args:
    intermediates: what `apply` returns with `mutable=['intermediates']`, of
      arrays or shapes.
  """
  stem: dict[str, Location] = {}
  blocks: dict[str, Location] = {}
  others: dict[str, Location] = {}
  last: dict[str, Location] = {}
  for path, sown in traverse_util.flatten_dict(dict(intermediates)).items():
    if not isinstance(sown, tuple):
      continue
    for call, array in enumerate(sown):
      name = '/'.join(path) + (f'/{call + 1}' if len(sown) > 1 else '')
      if _is_of_blocks(path, array):
        numbers = range(array.shape[0]) if array.ndim == 5 else [None]
        for number in numbers:
          blocks[f'block{len(blocks) + 1}'] = Location(path, call, number)
      elif array.ndim == 5:
        for block in range(array.shape[0]):
          others[f'{name}/{block + 1}'] = Location(path, call, block)
      elif array.ndim == 4:
        group = {'stem': stem, LAST: last}.get(name, others)
        group[name] = Location(path, call)
  layers = stem | blocks | others
  if layers and not last:
    last = {LAST: list(layers.values())[-1]}
  return layers | last


def _is_of_blocks(path, array):
  if len(path) != 2 or path[1] != 'output':
    return False
  pattern = {4: _BLOCK, 5: _BLOCKS}.get(array.ndim)
  return pattern is not None and pattern.fullmatch(path[0]) is not None


def select_layers(layers: Layers, names: Sequence[str]) -> list[str]:
  """Returns the names of layers in the network's order, each once.

  Args:
    layers: which ones.
    names: of all layers, in order.

  Raises:
    UserError: there is no such layer; the message names those there are.
  """
  if layers is None:
    return list(names[-1:])
  if isinstance(layers, str) and layers == 'all':
    return list(names)
  if isinstance(layers, str) or not isinstance(layers, Iterable):
    layers = [layers]
  chosen = {_name_of(layer, names) for layer in layers}
  if not chosen:
    raise UserError(f'no layer is given; there are {_list(names)}')
  return [name for name in names if name in chosen]


def apply_with_features(
  model: nn.Module,
  variables: Mapping[str, Any],
  images: jax.Array,
  layers: Layers = None,
) -> Features:
  """Evaluates a network and returns its features; to be traced by JAX.

  Args:
    model: the network, evaluated with its running statistics.
    variables: its `params` and `batch_stats`.
    images: `[B, H, W, C]`, normalised, of any size that the network takes.
    layers: which ones.

  Raises:
    UserError: there is no such layer, or the network sows nothing.
  """
  logits, state = model.apply(
    variables, images, train=False, mutable=['intermediates']
  )
  return collect(state.get('intermediates', {}), logits, layers)


def collect(
  intermediates: Mapping[str, Any], logits: jax.Array, layers: Layers = None
) -> Features:
  """Returns the features among what a network sowed.

  For programs that call `model.apply(..., mutable=['intermediates'])` by
  themselves, as to train BatchNorm's statistics at the same time.

  Args:
    intermediates: `state['intermediates']` of that call.
    logits: `[B, K]`.
    layers: which ones.

  Raises:
    UserError: there is no such layer, or the network sows nothing.
  """
  locations = find_layers(intermediates)
  head_input = intermediates.get(_FEATURES, (None,))[0]
  if not locations and (head_input is None or layers is not None):
    raise UserError(NOTHING)
  found = {}
  for name in select_layers(layers, list(locations)):
    grid = locations[name].find(intermediates)
    is_last = name == LAST and head_input is not None
    found[name] = LayerFeatures(
      grid,
      head_input if is_last else _mean(grid),
      _class_token(intermediates, locations[name]),
    )
  return Features(tuple(found), tuple(found.values()), head_input, logits)


def _mean(grid):
  return jnp.mean(grid, axis=(1, 2), dtype=jnp.float32)


def _class_token(intermediates, location):
  """Returns the class token beside a grid, or None."""
  *path, name = location.path
  location = dataclasses.replace(location, path=(*path, name + _CLASS_TOKEN))
  try:
    return location.find(intermediates)
  except KeyError:
    return None


def _name_of(layer, names):
  if isinstance(layer, str) and layer in names:
    return layer
  if isinstance(layer, str) and layer.lstrip('-').isdecimal():
    layer = int(layer)
  if isinstance(layer, int) and -len(names) <= layer < len(names):
    return names[layer]
  near = nearest(layer, names) if isinstance(layer, str) and names else None
  meant = f'; did you mean {near!r}?' if near else ''
  raise UserError(
    f'there is no layer {layer!r}; there are {_list(names)}{meant}'
  )


def _list(names):
  """Returns the names, a range of blocks as 'block1 to block32'."""
  blocks = [name for name in names if name.startswith('block')]
  if len(blocks) < 4 or len(blocks) < len(names) - 2:
    return ', '.join(names)
  first = names.index(blocks[0])
  return ', '.join(
    [
      *names[:first],
      f'{blocks[0]} to {blocks[-1]}',
      *names[first + len(blocks) :],
    ]
  )
