"""Counts parameters, MACs and activations of any network from its jaxpr.

A jaxpr has every product with its shapes, and every loop with its length, so
no network needs a formula of its own. A MAC is a multiplication with its
addition (multiply-accumulate), which is two FLOPs.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend import core

from convmixer_jax.config import ImageSize, height_width
from convmixer_jax.models import architecture_of
from convmixer_jax.models.shapes import variable_shapes


@dataclasses.dataclass(frozen=True)
class Macs:
  """Numbers of MACs and of their results.

  Only convolutions and matrix products count, including the padding of the
  image; activations and norms do not.

  Attributes:
    matrix: MACs of matrix products, and of convolutions that mix channels.
    depthwise: MACs of depthwise convolutions.
    outputs: elements of the results of all these, which timm and fvcore call
      activations.
  """

  matrix: int = 0
  depthwise: int = 0
  outputs: int = 0

  def __add__(self, other: 'Macs') -> 'Macs':
    """Adds the numbers."""
    return Macs(
      self.matrix + other.matrix,
      self.depthwise + other.depthwise,
      self.outputs + other.outputs,
    )

  def __mul__(self, times: int) -> 'Macs':
    """Multiplies the numbers, as for a loop."""
    return Macs(
      self.matrix * times, self.depthwise * times, self.outputs * times
    )

  @property
  def total(self) -> int:
    """The MACs of both kinds."""
    return self.matrix + self.depthwise


def count_parameters(
  model: nn.Module, image_size: ImageSize, channels: int = 3
) -> int:
  """Returns the number of parameters for images of this size."""
  params = variable_shapes(model, image_size, channels)['params']
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def count_forward(
  model: nn.Module,
  image_size: ImageSize,
  batch_size: int = 1,
  channels: int = 3,
) -> Macs:
  """Counts the MACs of an evaluation of images.

  Args:
    model: the network.
    image_size: side of the images or (height, width), in pixels.
    batch_size: number of images.
    channels: of the images.
  """
  model = _countable(model)
  shape = (batch_size, *height_width(image_size), channels)
  images = jax.ShapeDtypeStruct(shape, jnp.float32)
  variables = variable_shapes(model, image_size, channels)
  return count(
    lambda variables, images: model.apply(variables, images, train=False),
    variables,
    images,
  )


def count_training(
  model: nn.Module,
  image_size: ImageSize,
  batch_size: int = 1,
  channels: int = 3,
) -> Macs:
  """Counts the MACs of a forward and a backward pass; see `count_forward`.

  Operations that `remat` computes twice are counted once.
  """
  model = _countable(model)
  shape = (batch_size, *height_width(image_size), channels)
  images = jax.ShapeDtypeStruct(shape, jnp.float32)
  variables = variable_shapes(model, image_size, channels)

  def loss(params, rest, images):
    logits, _ = model.apply(
      {**rest, 'params': params},
      images,
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': jax.random.key(0)},
    )
    return logits.sum()

  rest = {name: tree for name, tree in variables.items() if name != 'params'}
  return count(jax.value_and_grad(loss), variables['params'], rest, images)


def count(function: Callable[..., Any], *arguments: Any) -> Macs:
  """Counts the MACs of a function, which is traced with arrays or shapes."""
  return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _countable(model):
  """Returns the model without custom kernels, which a jaxpr does not show."""
  architecture = architecture_of(model)
  changes = dict(architecture.portable['default'])
  for name, value in (('scan', True), ('remat', False)):
    if name in architecture.fields:
      changes[name] = value
  # An image by itself is in no group.
  changes |= {
    name: 0 for name, field in architecture.fields.items() if field.groups
  }
  return model.clone(**changes)


def _count(jaxpr: core.Jaxpr, is_used: Sequence[bool] | None = None) -> Macs:
  """Counts the operations on which the used outputs depend; None: all outputs.

  Like XLA, it ignores unused results, such as the gradient of the images.
  """
  if is_used is None:
    is_used = [True] * len(jaxpr.outvars)
  needed = {
    var
    for var, used in zip(jaxpr.outvars, is_used, strict=True)
    if used and isinstance(var, core.Var)
  }
  total = Macs()
  for equation in reversed(jaxpr.eqns):
    used = [var in needed for var in equation.outvars]
    if not any(used):
      continue
    needed |= {var for var in equation.invars if isinstance(var, core.Var)}
    total += _count_equation(equation, used)
  return total


def _count_equation(equation, used):
  name, params = equation.primitive.name, equation.params
  if name == 'dot_general':
    return _dot(equation)
  if name == 'conv_general_dilated':
    return _convolution(equation)
  if name == 'scan':
    (inner,) = _inner(params)
    # Carried values, which are not stacked, are used by the next iteration.
    used = [
      is_used or var.aval.shape == inner_var.aval.shape
      for is_used, var, inner_var in zip(
        used, equation.outvars, inner.outvars, strict=True
      )
    ]
    return _count(inner, used) * params['length']
  if name == 'cond':  # only one branch runs
    branches = [_count(branch, used) for branch in _inner(params)]
    return max(branches, key=lambda macs: macs.total)
  total = Macs()
  for inner in _inner(params):
    is_call = len(inner.outvars) == len(used)
    total += _count(inner, used if is_call else None)
  return total


def _inner(params):
  """Yields the jaxprs among an equation's parameters."""
  for value in params.values():
    for item in value if isinstance(value, tuple) else (value,):
      if isinstance(item, core.ClosedJaxpr):
        yield item.jaxpr
      elif isinstance(item, core.Jaxpr):
        yield item


def _dot(equation):
  (contracted, _), _ = equation.params['dimension_numbers']
  shape = equation.invars[0].aval.shape
  outputs = math.prod(equation.outvars[0].aval.shape)
  macs = outputs * math.prod(shape[axis] for axis in contracted)
  return Macs(matrix=macs, outputs=outputs)


def _convolution(equation):
  params = equation.params
  kernel = equation.invars[1].aval.shape
  spec = params['dimension_numbers'].rhs_spec
  outputs = math.prod(equation.outvars[0].aval.shape)
  macs = outputs * math.prod(kernel) // kernel[spec[0]]
  groups = params['feature_group_count'], params['batch_group_count']
  channels = kernel[spec[0]]
  if channels > 1 and channels in groups:
    return Macs(depthwise=macs, outputs=outputs)
  return Macs(matrix=macs, outputs=outputs)
