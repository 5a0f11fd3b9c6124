"""Networks that were given as objects, `train_and_evaluate(..., model=net)`.

In a config they are `model.name = 'object:NAME'`, without fields. A later
process has to give the object again.
"""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from convmixer_jax.errors import UserError, user_code
from convmixer_jax.models.architecture import Architecture
from convmixer_jax.own_names import PREFIX, Named, unwrap

_PAGE = 'see docs/python_api.md'


class _Own(NamedTuple):
  module: nn.Module
  architecture: Architecture


_known: dict[str, _Own] = {}  # by name, with the prefix


def is_object(name: Any) -> bool:
  """Returns whether a `config.model.name` is that of an object."""
  return isinstance(name, str) and name.startswith(PREFIX)


def register(model: nn.Module | Named, image_shape: tuple[int, ...]) -> str:
  """Makes a network known by the name that its class and attributes give it.

  Args:
    model: the network, perhaps with a name of its own.
    image_shape: (height, width, channels) of its images.

  Returns:
    The name, for `config.model.name`.

  Raises:
    UserError: it is not a network that a run can train.
  """
  module = unwrap(model)
  check(module)
  if isinstance(model, Named):
    name = model.name
  else:
    name = _describe(module, type(module).__name__)
  name = PREFIX + name
  head = _find_head(module, image_shape)
  _known[name] = _Own(module, Architecture(type(module), {}, head=head))
  return name


def find(name: str) -> Architecture:
  """Returns the architecture of a network by its name.

  Raises:
    UserError: this process was not given it.
  """
  return _find(name).architecture


def create(name: str, num_classes: int) -> nn.Module:
  """Returns a network by its name.

  Raises:
    UserError: this process was not given it, or it has other outputs.
  """
  module = _find(name).module
  check_num_classes(module, num_classes)
  return module


def check_num_classes(module: nn.Module, num_classes: int) -> None:
  """Raises UserError if a network that was given has other outputs."""
  if module.num_classes != num_classes:
    raise UserError(
      f'the model has num_classes = {module.num_classes}, and the data has '
      f'{num_classes} classes; create it with num_classes={num_classes}'
    )


def find_of(model: nn.Module) -> Architecture | None:
  """Returns the architecture of a network, None if it was not given."""
  same_type = [
    own for own in _known.values() if type(own.module) is type(model)
  ]
  for own in reversed(same_type):
    if own.module == model:
      return own.architecture
  return same_type[-1].architecture if same_type else None


def check(module: Any) -> None:
  """Raises UserError if a model is not a network with what a run needs."""
  if isinstance(module, type) and issubclass(module, nn.Module):
    raise UserError(
      f'model is the class {module.__name__}; give an object of it, such as '
      f'{module.__name__}(num_classes=10)'
    )
  if not isinstance(module, nn.Module):
    raise UserError(
      f'model is a {type(module).__name__}, not a flax.linen.Module; {_PAGE}'
    )
  name = type(module).__name__
  if type(getattr(module, 'num_classes', None)) is not int:
    raise UserError(
      f'{name} has no attribute num_classes that is a whole number; add '
      f"'num_classes: int' to it; {_PAGE}"
    )
  parameters = inspect.signature(type(module).__call__).parameters
  kinds = [parameter.kind for parameter in parameters.values()]
  if 'train' not in parameters and inspect.Parameter.VAR_KEYWORD not in kinds:
    raise UserError(
      f'{name}.__call__ has no argument train; define __call__(self, images, '
      f'*, train: bool); {_PAGE}'
    )


def _find(name):
  if name not in _known:
    raise UserError(
      f'config.model.name = {name!r} is a network that was given as an object '
      'in Python; give it again, by train_and_evaluate(..., model=...) or '
      'load_run(...).load(model=...)'
    )
  return _known[name]


def _find_head(module, image_shape):
  """Returns 'head', or the name of the last layer with num_classes outputs."""
  image = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  with user_code(
    f'the model {type(module).__name__} fails in init with images of shape '
    f'{list(image.shape)}'
  ):
    variables = jax.eval_shape(
      lambda key, image: module.init(key, image, train=False), key, image
    )
  params = variables.get('params', {})
  ending = [
    name
    for name, layer in params.items()
    if isinstance(layer, Mapping)
    and jax.tree.leaves(layer)
    and all(
      leaf.shape[-1:] == (module.num_classes,)
      for leaf in jax.tree.leaves(layer)
    )
  ]
  if 'head' in params or not ending:
    return 'head'  # which is checked like that of any network
  return ending[-1]


def _describe(value, where):
  """Returns a value as text that is the same in each process."""
  if isinstance(value, nn.Module):
    fields = [
      f'{field.name}={_describe(getattr(value, field.name), field.name)}'
      for field in dataclasses.fields(value)
      if field.init and field.name not in ('parent', 'name')
    ]
    return f'{type(value).__name__}({", ".join(fields)})'
  if isinstance(value, Mapping):
    items = [f'{k!r}: {_describe(v, where)}' for k, v in value.items()]
    return '{' + ', '.join(items) + '}'
  if isinstance(value, (tuple, list)):
    return f'({", ".join(_describe(item, where) for item in value)})'
  if isinstance(value, functools.partial):
    keywords = _describe(value.keywords, where)
    return (
      f'{_describe(value.func, where)}{_describe(value.args, where)}{keywords}'
    )
  if value is None or isinstance(value, (bool, int, float, str)):
    return repr(value)
  with contextlib.suppress(TypeError, ValueError):
    dtype = jnp.dtype(value)
    if dtype.kind != 'O':  # which NumPy takes any other class for
      return dtype.name
  name = getattr(value, '__qualname__', getattr(value, '__name__', None))
  if name is None or '<lambda>' in name:
    raise UserError(
      f'the model has an attribute {where!r} whose value cannot be recorded '
      f'({type(value).__name__}); give convmixer_jax.named(model, '
      "'NAME') instead of the model"
    )
  return name
