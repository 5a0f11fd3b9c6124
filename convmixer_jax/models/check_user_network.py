"""Checks a network of the user's, before a run with it writes anything."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from convmixer_jax.errors import UserError, first_line
from convmixer_jax.models import check_parts
from convmixer_jax.models.architecture import Architecture
from convmixer_jax.models.fields import Field

_RESERVED = {
  'name': 'that is the key of the network itself, and Flax has it too',
  'parent': 'Flax has an attribute of this name',
  'num_classes': 'the data set decides it',
  'dtype': 'config.dtype decides it',
  'gather': 'it is what stacked blocks receive',
  'native_size': 'it is the size of the images in training',
}
_COLLECTIONS = ('params', 'batch_stats')
_PAGE = 'see docs/adding_a_network.md'


def network_error(name: str, problem: str) -> UserError:
  """Returns an error; `problem` says what is wrong and what to do."""
  return UserError(f'config.model.name = {name!r}: {problem}')


def describe_error(error: BaseException) -> str:
  """Returns an error of somebody else's code in a line."""
  text = f'{type(error).__name__}: {first_line(error)}'
  return f'({text}); correct it; --debug shows more'


def check_architecture(
  name: str, found: Any, package: Iterable[Architecture]
) -> None:
  """Checks what can be seen without calling the module.

  Args:
    name: as in `config.model.name`.
    found: what has this name.
    package: the networks of this package.

  Raises:
    UserError: says what is wrong.
  """
  if not isinstance(found, Architecture):
    raise UserError(
      f'config.model.name = {name!r} is a {type(found).__name__}, not an '
      f'Architecture; {_PAGE}'
    )
  module, fields = found.module, found.fields
  is_module = isinstance(module, type) and issubclass(module, nn.Module)
  if not is_module or module is nn.Module:
    raise network_error(
      name, f'its module is {module!r}; give a class that extends nn.Module'
    )
  if any(module is architecture.module for architecture in package):
    raise network_error(
      name,
      f'its module is the {module.__name__} of this package; name that '
      'network, or give a class that extends it',
    )
  is_mapping = isinstance(fields, Mapping) and all(
    isinstance(key, str) and key.isidentifier() and isinstance(field, Field)
    for key, field in fields.items()
  )
  if not is_mapping:
    raise network_error(
      name, f'its fields are not a dict of names and Field(...); {_PAGE}'
    )
  for key, why in _RESERVED.items():
    if key in fields:
      raise network_error(
        name,
        f'its field {key!r} has a reserved name ({why}); call it otherwise',
      )
  if problem := check_parts.find_problem(found):
    raise network_error(name, problem)
  _check_attributes(name, module, fields)
  if found.stacked and not hasattr(module, 'gather'):
    raise network_error(
      name,
      f'{module.__name__} has no attribute gather, which a network with '
      "stacked blocks needs; add 'gather: GatherFn | None = None' and give it "
      f'to create_block; {_PAGE}',
    )
  if not any('__call__' in vars(base) for base in module.__mro__[:-1]):
    raise network_error(name, f'{module.__name__} has no __call__; {_PAGE}')
  parameters = inspect.signature(module.__call__).parameters
  kinds = [parameter.kind for parameter in parameters.values()]
  if 'train' not in parameters and inspect.Parameter.VAR_KEYWORD not in kinds:
    raise network_error(
      name,
      f'{module.__name__}.__call__ has no argument train; define '
      '__call__(self, images, *, train)',
    )


def _check_attributes(name, module, fields):
  attributes = [field for field in dataclasses.fields(module) if field.init]
  names = {attribute.name for attribute in attributes}
  for key in (*fields, 'num_classes', 'dtype'):
    if key not in names:
      raise network_error(
        name,
        f'{module.__name__} has no attribute {key!r}; add it, such as '
        f"'{key}: {'jnp.dtype' if key == 'dtype' else 'int'}'",
      )
  given = {*fields, *_RESERVED} - {'gather'}
  nothing = dataclasses.MISSING
  for attribute in attributes:
    has_default = (attribute.default, attribute.default_factory) != (
      nothing,
      nothing,
    )
    if not has_default and attribute.name not in given:
      raise network_error(
        name,
        f'{module.__name__} needs {attribute.name!r}, which is not among its '
        'fields; add it there, or give it a default',
      )


def construct(name: str, create: Callable[[], nn.Module]) -> nn.Module:
  """Returns `create()`, in which anything may go wrong.

  Raises:
    UserError: it failed.
  """
  return _call(name, 'the module cannot be created', create)


def check_network(
  name: str,
  architecture: Architecture,
  model: nn.Module,
  image_shape: tuple[int, int, int],
) -> None:
  """Checks what a run needs of a network, by shapes alone.

  Args:
    name: as in `config.model.name`.
    architecture: of the network.
    model: the network.
    image_shape: (height, width, channels) of the images of the run.

  Raises:
    UserError: a call fails, or its result, the parameters or the head are not
      what they should be.
  """
  image = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
  keys = jax.eval_shape(lambda: jax.random.key(0))

  def init(key, image):
    return model.init(key, image, train=False)

  def evaluate(variables, image):
    return model.apply(variables, image, train=False)

  def train(variables, key, image):
    return model.apply(
      variables,
      image,
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': key},
    )

  def shapes(what, function, *arguments):
    call = f'{type(model).__name__} fails in {what}'
    return _call(name, call, lambda: jax.eval_shape(function, *arguments))

  variables = shapes('init', init, keys, image)
  _check_variables(name, architecture, model, variables)
  logits = shapes('apply with train=False', evaluate, variables, image)
  _check_logits(name, model, logits, 'train=False')
  more = jax.ShapeDtypeStruct((4, *image.shape[1:]), image.dtype)
  shapes('apply to 4 images after init with 2', evaluate, variables, more)
  logits, updated = shapes(
    'apply with train=True', train, variables, keys, image
  )
  _check_logits(name, model, logits, 'train=True')
  if dict(updated) != {k: v for k, v in variables.items() if k != 'params'}:
    raise network_error(
      name,
      'batch_stats have other names, shapes or dtypes after a call with '
      'train=True; keep those of init',
    )
  if architecture.pictures:
    function = architecture.pictures
    call = 'its function pictures fails for the parameters of init'
    _check_pictures(
      name,
      _call(name, call, lambda: jax.eval_shape(function, variables['params'])),
      image_shape[-1],
    )


def _check_pictures(name, pictures, channels):
  if not isinstance(pictures, Mapping):
    pictures = {'': pictures}
  for key, array in pictures.items():
    shape = getattr(array, 'shape', None)
    is_picture = (
      shape and len(shape) in (4, 5) and shape[-1] in (1, 3, channels)
    )
    if not isinstance(key, str) or not key or not is_picture:
      found = (
        f'{key!r}: {type(array).__name__}'
        if shape is None
        else (f'{key!r}: {array.dtype} {list(shape)}')
      )
      raise network_error(
        name,
        f'its function pictures returns {found}; return a dict of names and '
        'arrays [N, k, k, C] or [depth, N, k, k, C], where C is 1, 3 or '
        'the channels of the images',
      )


def _call(name, what, function):
  try:
    return function()
  except UserError:
    raise
  except (Exception, SystemExit) as error:  # any, from the user's module
    raise network_error(name, f'{what} {describe_error(error)}') from error


def _check_variables(name, architecture, model, variables):
  for collection in variables:
    if collection not in _COLLECTIONS:
      raise network_error(
        name,
        f'it has variables in {collection!r}, which a run does not keep; use '
        f'{" and ".join(_COLLECTIONS)} alone',
      )
  params = variables.get('params', {})
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    if leaf.dtype != jnp.float32:
      raise network_error(
        name,
        f'{jax.tree_util.keystr(path, simple=True, separator="/")} is '
        f'{leaf.dtype}; make it float32',
      )
  for stack in architecture.stacked:
    if stack not in params:
      raise network_error(
        name,
        f'its stacked is {architecture.stacked!r}: there is no such module '
        f'{stack!r}; there are {", ".join(params) or "none"}',
      )
    lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(params.get(stack))}
    if len(lengths) != 1 or () in lengths:
      raise network_error(
        name,
        f'its parameters in {stack!r} are not stacked along a leading axis of '
        'the same length; use nn.scan, or leave it out of '
        'Architecture(stacked=)',
      )
  head = architecture.head
  if head not in params or not isinstance(params[head], Mapping):
    there = ', '.join(params) or 'none'
    raise network_error(
      name,
      f'its head is {head!r}, and there is no module of this name; there '
      f'are {there}; name the last dense layer so, or give Architecture(head=)',
    )
  outputs = architecture.num_classes(params)
  if outputs != model.num_classes:
    raise network_error(
      name,
      f'its head {head!r} has {outputs} outputs, not num_classes = '
      f'{model.num_classes}; give it that many',
    )


def _check_logits(name, model, logits, how):
  expected = f'float32 [B, num_classes], such as [2, {model.num_classes}]'
  if not isinstance(logits, jax.ShapeDtypeStruct):
    found = f'a {type(logits).__name__}'
  elif logits.dtype != jnp.float32 or logits.shape != (2, model.num_classes):
    found = f'{logits.dtype} {list(logits.shape)}'
  else:
    return
  raise network_error(
    name,
    f'{type(model).__name__} returns {found} with {how}; return {expected}',
  )
